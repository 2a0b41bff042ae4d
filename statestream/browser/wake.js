/* wake.js: what happens to a page that concerns its connection.
 *
 * Invariants: it only passes on what the browser says; outside of a page, nothing ever happens.
 */

/** Wakes `connection`, and `outbox` if there is one, when the page is shown or comes back from the cache, and when the
 * network is back.
 *
 * While the page is in that cache, it has no connection; otherwise the browser would not keep it. A page that the browser
 * freezes has none either, because others may wait for it. Returns a function that ends all this.
 */
export function watchPage(connection, outbox) {
  if (typeof globalThis.addEventListener !== "function") return () => {};
  const ended = new AbortController(), { signal } = ended;
  const on = (name, work, target = globalThis) => target.addEventListener(name, work, { signal });
  const sleep = () => (connection.sleep(), outbox?.sleep()), wake = () => (connection.wake(), outbox?.wake());
  on("online", () => (connection.wake(true), outbox?.wake())); // what was open before may be cut without a sign
  on("pagehide", sleep);
  on("pageshow", wake);
  if (globalThis.document) {
    on("visibilitychange", () => document.hidden || wake(), document);
    on("freeze", sleep, document);
    on("resume", wake, document);
  }
  return () => ended.abort();
}
