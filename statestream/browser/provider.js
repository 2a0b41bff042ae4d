/* provider.js: the client that the components of a React tree share, and how hooks find it.
 *
 * Invariants: rendering changes nothing: effects alone open connections, and a provider closes those that it has
 * opened.
 */
"use client"; // frameworks that render on a server run this module in the browser as well

import * as React from "react";
import { StatestreamError } from "./errors.js";
import { Source } from "./feed.js";

export { React }; // hooks import it from here, because a second import of the package is larger

const Context = React.createContext(null), ignore = () => {};

/** Gives components a client: `client`, or one of its own, with `url` and the options of `connect`.
 *
 * Its own client connects when the provider is mounted in a browser, and is closed after it is unmounted.
 */
export function StatestreamProvider({ children, client, url, ...options }) {
  const { slices, token, identity, snapshot } = options;
  const newest = React.useRef(options), spent = React.useRef(undefined);
  const source = React.useMemo(() => {
    const own = { ...options };
    for (const name of ["token", "fetch"]) // a component may pass a new one each time
      if (typeof own[name] === "function") own[name] = (...given) => newest.current[name](...given);
    if (snapshot === spent.current) delete own.snapshot; // it was shown already, and to somebody else perhaps
    return new Source(client, url, own);
  }, [client, String(url), slices && String(slices), typeof token === "function" || token, identity]);
  React.useInsertionEffect(() => void (newest.current = options)); // before the effects of the components in it
  React.useEffect(() => {
    spent.current = newest.current.snapshot;
    return source.base.subscribe(ignore);
  }, [source]);
  return React.createElement(Context.Provider, { value: source }, children);
}

/** The slices of the server of the nearest provider. Throws a StatestreamError if there is none. */
export function useSource() {
  const source = React.useContext(Context);
  if (source !== null) return source;
  throw new StatestreamError("there is no StatestreamProvider around this component", { code: "no_provider" });
}
