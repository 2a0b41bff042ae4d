/* notifier.js: tells those who listen that something has changed, at most once per frame of the screen.
 *
 * Invariants: a listener that throws affects neither the others nor the stream. Without frames, as in Node, in a hidden
 * page or in a frame that is scrolled away, a timer takes their place.
 */

const LATEST_MS = 1000; // how long to wait for a frame

/** Calls each listener with what `take()` gives. */
export class Notifier {
  #listeners = new Set();
  #take;
  #cancel = null;

  constructor(take) {
    this.#take = take;
  }

  /** Returns a function that removes the listener. */
  add(listener) {
    const entry = { listener }; // so that one function can be added twice
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  get isHeard() {
    return this.#listeners.size > 0;
  }

  schedule() {
    this.#cancel ??= atNextFrame(() => {
      this.#cancel = null;
      const news = this.#take();
      for (const { listener } of [...this.#listeners]) call(listener, news);
    });
  }

  /** From here on, nobody is called. */
  stop() {
    this.#cancel?.();
    this.#cancel = null;
    this.#listeners.clear();
  }
}

function call(listener, news) {
  try {
    listener(news);
  } catch (error) {
    if (globalThis.reportError) reportError(error);
    else console.error(error);
  }
}

/** Returns a function that cancels it. */
function atNextFrame(work) {
  const paints = globalThis.document?.visibilityState === "visible";
  const frame = paints ? requestAnimationFrame(done) : null;
  const timer = setTimeout(done, paints ? LATEST_MS : 0);
  function cancel() {
    if (frame !== null) cancelAnimationFrame(frame);
    clearTimeout(timer);
  }
  function done() {
    cancel();
    work();
  }
  return cancel;
}
