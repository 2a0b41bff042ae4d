/* outbox.js: actions whose changes are shown already, on their way to the server.
 *
 * Invariants: they are sent one after the other, in the order in which they were dispatched, each until it is answered.
 * Only the server's answer or `close` ends one. Neither a login page nor a proxy does, unless the action is too large
 * for the proxy, because it always will be.
 */
import { isUndecided } from "./dispatch.js";

export const PAUSE_MS = 5_000; // between attempts while the server does not answer
const LOCAL = ["token", "redirect", "answer"]; // codes of failures that another program or the page itself may cause
const UNAUTHENTICATED = 401; // somebody may sign in again
const TOO_LARGE = 413;

/** Whether an action that has failed is to be sent again, because the server has not decided about it. */
export const isUnanswered = (error) =>
  isUndecided(error) ||
  error.status === UNAUTHENTICATED ||
  (LOCAL.includes(error.code) && error.status !== TOO_LARGE);

export class Outbox {
  #send;
  #waiting = [];
  #isSending = false;
  #closed = false;
  #pause = null;

  /** `send(action)` gives the answer, or throws. */
  constructor(send) {
    this.#send = send;
  }

  /** The answer to an action. Throws a StatestreamError. */
  put(action) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ action, resolve, reject });
      if (!this.#isSending) void this.#run();
    });
  }

  /** The server may answer again. */
  wake() {
    this.#pause?.();
  }

  /** A page that is put away has nobody to send for it. */
  sleep() {}

  close() {
    this.#closed = true;
    this.wake();
  }

  async #run() {
    this.#isSending = true;
    while (this.#waiting.length > 0) {
      const { action, resolve, reject } = this.#waiting[0];
      try {
        resolve(await this.#send(action));
      } catch (error) {
        if (isUnanswered(error) && !this.#closed) {
          await this.#rest(error.retryAfter);
          continue;
        }
        reject(error);
      }
      this.#waiting.shift();
    }
    this.#isSending = false;
  }

  async #rest(least = 0) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(PAUSE_MS, least));
      this.#pause = () => (clearTimeout(timer), resolve());
    });
    this.#pause = null;
  }
}
