/* archive.js: a chat together with its messages that are no longer live, which the server has in an archive.
 *
 * Invariants: messages of the archive never change. They are requested from the newest to the oldest, and only on
 * demand. What leaves the live messages stays in the view. Unchanged members of the view are the same objects.
 */
import { EMPTY, viewOf } from "./conversation.js";
import { areShallowEqual } from "./sharing.js";

/** The archive of a chat: `viewOf(chat)` gives the view of its newest value, which begins with the older messages that
 * are known; without a value, the latest view. `load()` requests more of them. It throws a StatestreamError.
 *
 * `request` sends to the server as a client does; `onChange()` is called when there are more messages.
 */
export function archiveOf(id, request, onChange) {
  let chat, live = [], past = EMPTY; // of all branches, oldest first
  let view = { ...viewOf(chat), hasOlder: false };
  const oldest = () => [...past.messages, ...live][0]?.id;

  function look(value) {
    const newest = value?.messages ?? [], at = live.findIndex(({ id }) => id === newest[0]?.id);
    if (at > 0) past = { ...past, messages: [...past.messages, ...live.slice(0, at)] }; // they have left
    else if (at < 0) past = EMPTY; // there may be others in between
    [chat, live] = [value, newest];
    const now = viewOf(chat), leaf = now.messages[0]?.parent, before = view;
    if (past.leaf !== leaf) past = { ...past, leaf };
    const messages = [...viewOf(past).messages, ...now.messages], ids = messages.map(({ id }) => id);
    view = { ...now, ids, messages, hasOlder: !past.isComplete && messages[0]?.parent !== undefined };
    for (const key in view) if (areShallowEqual(before[key], view[key])) view[key] = before[key];
  }

  return {
    viewOf(value = chat) {
      if (value !== chat) look(value);
      return view;
    },

    async load() {
      const { length } = view.ids;
      while (view.hasOlder && view.ids.length <= length) { // a page may be of other branches
        const before = oldest(), query = `before=${encodeURIComponent(before)}`;
        const route = `api/chats/${encodeURIComponent(id)}/messages?${query}`;
        const { messages } = await request(route, undefined, { method: "GET", attempts: 1 });
        if (before !== oldest()) continue; // they do not adjoin the known messages
        past = { messages: [...messages, ...past.messages], isComplete: messages.length === 0 };
        look(chat);
      }
      onChange();
    },
  };
}
