/* wake.js: what happens to a page that concerns its connection.
 *
 * Invariants: it only passes on what the browser says; outside of a page, nothing ever happens.
 */

/** Wakes `connection` when the page is shown, when the network is back, and when the page comes back from the cache.
 *
 * While the page is in that cache, it has no connection; otherwise the browser would not keep it. A page that the browser
 * freezes has none either, because others may wait for it. Returns a function that ends all this.
 */
export function watchPage(connection) {
  if (typeof globalThis.addEventListener !== "function") return () => {};
  const ended = new AbortController(), { signal } = ended;
  const on = (name, work, target = globalThis) => target.addEventListener(name, work, { signal });
  on("online", () => connection.wake(true)); // what was open before may be cut without a sign
  on("pagehide", () => connection.sleep());
  on("pageshow", () => connection.wake());
  if (globalThis.document) {
    on("visibilitychange", () => document.hidden || connection.wake(), document);
    on("freeze", () => connection.sleep(), document);
    on("resume", () => connection.wake(), document);
  }
  return () => ended.abort();
}
