/* deadline.js: a limit for a wait, which can be moved.
 *
 * Invariants: once it is aborted, it stays so. Every wait of this client has one. `race` also ends waits for code that
 * ignores the signal, such as the function that returns a token.
 */
import { Lost } from "./errors.js";

export const MAX_MS = 2 ** 31 - 1; // setTimeout fires at once after a longer delay
export const OVER = new Lost("the wait is over"); // nobody needs what was waited for

export class Deadline {
  #controller = new AbortController();
  #aborted;
  #timer;
  expired = false; // whether the time was over, and not something else

  constructor() {
    const { signal } = this;
    this.#aborted = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    this.#aborted.catch(() => {}); // perhaps nobody waits
  }

  get signal() {
    return this.#controller.signal;
  }

  /** From now on, `ms` are left. */
  extend(ms) {
    clearTimeout(this.#timer);
    if (this.signal.aborted) return;
    this.#timer = setTimeout(() => this.#expire(), Math.min(ms, MAX_MS));
  }

  #expire() {
    this.expired = true;
    this.abort(new Lost("nothing was received in time"));
  }

  abort(reason = OVER) {
    clearTimeout(this.#timer);
    this.#controller.abort(reason);
  }

  /** What `promise` gives. Throws the reason once it is aborted. */
  race(promise) {
    return Promise.race([promise, this.#aborted]);
  }
}
