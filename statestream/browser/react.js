/* react.js: hooks for React 18 and newer: components show slices, and draw again when what they show has changed.
 *
 *   <StatestreamProvider url="/" slices={["board"]}> … </StatestreamProvider>
 *   const tasks = useSlice("board", (board) => board.tasks);
 *
 * Invariants: this is all that is public of the hooks, except for those of `react_tools.js`. Rendering changes nothing.
 * While a page is hydrated, all components show the snapshot.
 */
"use client"; // frameworks that render on a server run this module in the browser as well

import { archiveOf } from "./archive.js";
import { EMPTY, deskOf, keyOf, peopleIn, typingIn } from "./conversation.js";
import { React, useSource } from "./provider.js";
import { areShallowEqual } from "./sharing.js";

const NONE = {}, same = (value) => value;

/** What `select` makes of what `read` finds in the feed with the slice `name`: the same object while it is equal. */
function useFeed(name, read, select = same, isEqual = Object.is) {
  const feed = useSource().feedOf(name), held = React.useRef(undefined); // what is on the screen
  const [get, getFirst] = React.useMemo(() => {
    const selecting = (look) => {
      let input = NONE, output;
      return () => {
        const now = read(look());
        if (Object.is(input, now)) return output;
        const next = select(now), before = output ?? held.current, isKnown = before !== undefined && next !== undefined;
        [input, output] = [now, isKnown && isEqual(before, next) ? before : next];
        return output;
      };
    };
    return [selecting(() => feed.shown), selecting(() => feed.initial)];
  }, [feed, read, select, isEqual]);
  const value = React.useSyncExternalStore(feed.subscribe, get, getFirst);
  React.useEffect(() => void (held.current = value));
  return value;
}

/** The value of a slice, or what `selector` finds in it. Undefined while there is no such slice.
 *
 * The component is drawn again if the result is not equal to the one before: by `isEqual`, which compares the members
 * of objects and arrays by default, as a selector may make new ones.
 */
export function useSlice(name, selector = same, isEqual = areShallowEqual) {
  const select = React.useCallback((value) => (value === undefined ? undefined : selector(value)), [selector]);
  const read = React.useCallback(({ state }) => (Object.hasOwn(state, name) ? state[name] : undefined), [name]);
  return useFeed(name, read, select, selector === same ? undefined : isEqual);
}

/** The function that dispatches actions, see `dispatch` of a client: the same until the provider connects anew. */
export function useDispatch() {
  return useSource().dispatch;
}

const healthOf = ({ health }) => health;

/** What the connection does: the one that has the slice `name`, or the provider's. */
export function useHealth(name) {
  return useFeed(name, healthOf);
}

const endOf = ({ health: { phase, error } }) => (phase === "ended" ? error : null);

/** Who is in a chat, and a function that reports that this person is typing. Being here, this person is present too. */
export function usePresence(chat) {
  const source = useSource(), people = useSlice(`presence/${keyOf(chat)}`, peopleIn);
  const setTyping = React.useMemo(() => typingIn(chat, source.request), [source, chat]);
  return React.useMemo(() => ({ people: people ?? [], setTyping }), [people, setTyping]);
}

/** A chat, and what to do in it. Without `chat`, it is a new one, which begins with the first message that is sent.
 *
 * The component is drawn again when something has changed that it reads: one that reads `ids` and not `messages` is
 * not drawn again while a reply grows.
 */
export function useChat(chat) {
  const source = useSource(), { current: used } = React.useRef(new Set());
  const isEqual = React.useCallback((before, next) => [...used].every((key) => before[key] === next[key]), [used]);
  const shown = useView(chat, same, isEqual), error = useFeed(nameOf(chat), endOf);
  const archive = chatIn(source, chat);
  const desk = React.useMemo(() => deskOf(chat, () => chatIn(source, chat).viewOf(), source.request), [source, chat]);
  return React.useMemo(() => {
    const all = { ...desk, error, loadOlder: archive.load };
    for (const key in shown)
      Object.defineProperty(all, key, { get: () => (used.add(key), archive.viewOf()[key]), enumerable: true });
    return all;
  }, [shown, desk, error, archive]);
}

const nameOf = (chat) => (chat === undefined ? undefined : `chat/${keyOf(chat)}`);

/** A chat with its older messages, for all components that show it. */
function chatIn(source, chat) {
  const name = nameOf(chat), { archives, publish } = source.feedOf(name);
  return (archives[name] ??= archiveOf(chat, source.request, publish));
}

/** What `select` makes of the view of a chat. */
function useView(chat, select, isEqual) {
  const source = useSource(), name = nameOf(chat);
  const read = React.useCallback(({ state, begun }) => {
    const none = begun ? null : undefined; // there is no such chat, or nobody knows yet
    return chatIn(source, chat).viewOf(name === undefined ? EMPTY : state[name] ?? none);
  }, [source, chat]);
  return useFeed(name, read, select, isEqual);
}

/** One message of a chat; undefined while it is not shown. */
export function useMessage(chat, message) {
  const select = React.useCallback(({ messages }) => messages.find(({ id }) => id === message), [message]);
  return useView(chat, select);
}

/** The hooks above, with the types of a server. */
export const createHooks = () => ({ useSlice, useDispatch, useHealth, usePresence, useChat, useMessage });

export { StatestreamProvider } from "./provider.js";
export { areShallowEqual };
