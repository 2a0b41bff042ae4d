/* react.js: hooks for React 18 and newer: components show slices, and draw again when what they show has changed.
 *
 *   <StatestreamProvider url="/" slices={["board"]}> … </StatestreamProvider>
 *   const tasks = useSlice("board", (board) => board.tasks);
 *
 * Invariants: this is all that is public of the hooks. Rendering changes nothing: connections are opened by effects
 * only, and a provider closes those that it has opened. While a page is hydrated, all components show the snapshot.
 */
"use client"; // frameworks that render on a server run this module in the browser as well

import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";
import { useInsertionEffect, useSyncExternalStore } from "react";
import { Desk, keyOf, NEW, peopleIn, typingIn, viewOf } from "./conversation.js";
import { StatestreamError } from "./errors.js";
import { Source } from "./feed.js";

const Context = createContext(null), NONE = {};
const same = (value) => value, ignore = () => {};

/** Gives components a client: `client`, or one of its own, with `url` and the options of `connect`.
 *
 * Its own client connects when the provider is mounted in a browser, and is closed after it is unmounted.
 */
export function StatestreamProvider({ children, client, url, ...options }) {
  const { slices, token, identity, snapshot } = options, newest = useRef(options), spent = useRef(undefined);
  const text = typeof token === "string" ? token : undefined;
  const source = useMemo(() => {
    const call = (name) => (...given) => newest.current[name](...given); // a component may pass a new one each time
    const own = { ...options };
    if (typeof token === "function") own.token = call("token");
    if (own.fetch) own.fetch = call("fetch");
    if (snapshot === spent.current) delete own.snapshot; // it was shown already, and to somebody else perhaps
    return new Source(client, url, own);
  }, [client, String(url), slices && String(slices), typeof token, text, identity]);
  useInsertionEffect(() => void (newest.current = options)); // before the effects of the components in it
  useEffect(() => {
    spent.current = newest.current.snapshot;
    return source.base.subscribe(ignore);
  }, [source]);
  return createElement(Context.Provider, { value: source }, children);
}

function useSource() {
  const source = useContext(Context);
  if (source !== null) return source;
  throw new StatestreamError("there is no StatestreamProvider around this component", { code: "no_provider" });
}

/** What `select` makes of what `read` finds in the feed with the slice `name`: the same object while it is equal. */
function useFeed(name, read, select, isEqual) {
  const feed = useSource().feedOf(name), held = useRef(NONE); // what is on the screen
  const [get, getFirst] = useMemo(() => {
    const selecting = (look) => {
      let input = NONE, output = NONE;
      return () => {
        const now = read(look());
        if (Object.is(input, now)) return output;
        const next = select(now), before = output === NONE ? held.current : output;
        [input, output] = [now, !isMissing(before) && !isMissing(next) && isEqual(before, next) ? before : next];
        return output;
      };
    };
    return [selecting(() => feed.shown), selecting(() => feed.initial)];
  }, [feed, read, select, isEqual]);
  const value = useSyncExternalStore(feed.subscribe, get, getFirst);
  useEffect(() => void (held.current = value));
  return value;
}

const isMissing = (value) => value === NONE || value === undefined;

const valueIn = (state, name, otherwise) => (Object.hasOwn(state, name) ? state[name] : otherwise);

/** The same for the value of the slice; `select` gets null if there is none, and undefined before the first state. */
function useValue(name, select, isEqual) {
  const read = useCallback(({ state, begun }) => valueIn(state, name, begun ? null : undefined), [name]);
  return useFeed(name, read, select, isEqual);
}

/** The value of a slice, or what `selector` finds in it. Undefined while there is no such slice.
 *
 * The component is drawn again if the result is not equal to the one before: by `isEqual`, which compares the members
 * of objects and arrays by default, as a selector may make new ones.
 */
export function useSlice(name, selector = same, isEqual = areShallowEqual) {
  const select = useCallback((value) => (value === undefined ? undefined : selector(value)), [selector]);
  const read = useCallback(({ state }) => valueIn(state, name), [name]);
  return useFeed(name, read, select, selector === same ? Object.is : isEqual);
}

/** The function that dispatches actions, see `dispatch` of a client. It is the same until the provider connects anew. */
export function useDispatch() {
  return useSource().dispatch;
}

const healthOf = ({ health }) => health;

/** What the connection does: the one that has the slice `name`, or the provider's. */
export function useHealth(name) {
  return useFeed(name, healthOf, same, areShallowEqual);
}

const endOf = ({ health: { phase, error } }) => (phase === "ended" ? error : null);

/** Who is in a chat, and a function that reports that this person is typing. Being here, this person is present too. */
export function usePresence(chat) {
  const source = useSource(), people = useValue(`presence/${keyOf(chat)}`, peopleIn, areShallowEqual);
  const setTyping = useMemo(() => typingIn(chat, source.request), [source, chat]);
  return useMemo(() => ({ people, setTyping }), [people, setTyping]);
}

/** A chat, and what to do in it. Without `chat`, it is a new one, which begins with the first message that is sent.
 *
 * The component is drawn again when something has changed that it reads: one that reads `ids` and not `messages` is
 * not drawn again while a reply grows.
 */
export function useChat(chat) {
  const source = useSource(), [used] = useState(() => new Set());
  const name = chat === undefined ? undefined : `chat/${keyOf(chat)}`;
  const select = useCallback((value) => ({ view: name === undefined ? NEW : viewOf(value) }), [name]);
  const isEqual = useCallback((before, next) => {
    const view = kept(before.view, next.view), equal = [...used].every((key) => view[key] === before.view[key]);
    (equal ? before : next).view = view; // so that what is read for the first time is of now
    return equal;
  }, [used]);
  const shown = useValue(name, select, isEqual), error = useFeed(name, endOf, same, Object.is);
  const desk = useMemo(() => {
    const look = () => viewOf(name && source.feedOf(name).shown.state[name]);
    return new Desk(chat, look, source.request);
  }, [source, chat, name]);
  return useMemo(() => watched(shown, used, { ...desk, error }), [shown, used, desk, error]);
}

/** The view `after`, with those members of `before` that are equal. */
function kept(before, after) {
  const view = { ...after };
  for (const key of Object.keys(view)) if (areShallowEqual(before[key], after[key])) view[key] = before[key];
  return view;
}

/** `more` with the members of what is shown, which notes in `used` what is read. */
function watched(shown, used, more) {
  for (const key of Object.keys(shown.view)) {
    const get = () => (used.add(key), shown.view[key]);
    Object.defineProperty(more, key, { get, enumerable: true });
  }
  return more;
}

/** One message of a chat; undefined while it is not shown. */
export function useMessage(chat, message) {
  const select = useCallback((value) => viewOf(value).messages.find(({ id }) => id === message), [message]);
  return useValue(`chat/${keyOf(chat)}`, select, Object.is);
}

/** The hooks above, with the types of a server. */
export const createHooks = () => ({ useSlice, useDispatch, useHealth, usePresence, useChat, useMessage });

/** Whether two values are the same, or two objects or arrays whose members are the same. */
export function areShallowEqual(one, other) {
  if (Object.is(one, other)) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  const names = Object.keys(one);
  if (Array.isArray(one) !== Array.isArray(other) || names.length !== Object.keys(other).length) return false;
  return names.every((name) => Object.hasOwn(other, name) && Object.is(one[name], other[name]));
}
