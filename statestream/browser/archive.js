/* archive.js: a chat together with its messages that are no longer live, which the server has in an archive.
 *
 * Invariants: messages of the archive never change. They are requested from the newest to the oldest, and only on
 * demand. What leaves the live messages stays in the view. Unchanged members of the view are the same objects.
 */
import { viewOf } from "./conversation.js";
import { areShallowEqual } from "./sharing.js";

/** The archive of a chat: `viewOf(chat)` gives the view of its newest value, which begins with the older messages that
 * are known; without a value, the latest view. `load()` requests more of them. It throws a StatestreamError.
 *
 * `request` sends to the server as a client does; `onChange()` is called when there are more messages.
 */
export function archiveOf(id, request, onChange) {
  let chat, live = [], past = []; // of all branches, oldest first
  let end; // the message before which the archive has none
  let view = { ...viewOf(chat), hasOlder: false };

  function look(value) {
    const newest = value?.messages ?? [], before = view;
    if (newest.length !== live.length || newest[0]?.id !== live[0]?.id) keep(newest);
    [chat, live] = [value, newest];
    view = { ...viewOf(value && { ...value, messages: [...past, ...live] }) };
    view.hasOlder = view.messages[0]?.parent !== undefined && view.ids[0] !== end;
    for (const key in view) if (areShallowEqual(before[key], view[key])) view[key] = before[key];
  }

  /** What is known beside the newest live messages: messages leave these, and come back with another branch. */
  function keep(newest, page = []) {
    const seen = new Set(newest.map(({ id }) => id)), isNew = ({ id }) => !seen.has(id) && seen.add(id);
    past = [...page, ...past, ...live].filter(isNew).sort((one, other) => one.created_at - other.created_at);
  }

  return {
    viewOf(value = chat) {
      if (value !== chat) look(value);
      return view;
    },

    async load() {
      let { ids } = view, [before] = ids;
      while (view.hasOlder && view.ids.length <= ids.length) {
        const route = `api/chats/${encodeURIComponent(id)}/messages?before=${encodeURIComponent(before)}`;
        const { messages } = await request(route, undefined, { method: "GET", attempts: 1 });
        if (messages.length === 0) end = ids[0];
        keep(live, messages);
        look(chat);
        if (view.ids[0] === ids[0]) before = messages[0]?.id; // the page is of other branches
        else if (view.ids.length <= ids.length) [before] = ids = view.ids; // other messages are live now
      }
      onChange();
    },
  };
}
