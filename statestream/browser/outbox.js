/* outbox.js: actions whose changes are shown already, on their way to the server.
 *
 * Invariants: they are sent one after the other, in the order in which they were dispatched, each until it is answered.
 * Only the server's answer ends one, or `close`.
 */
import { Lost } from "./errors.js";

const PAUSE_MS = 5_000; // between attempts while the server does not answer

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
        if (error instanceof Lost && !this.#closed) {
          await this.#rest();
          continue;
        }
        reject(error);
      }
      this.#waiting.shift();
    }
    this.#isSending = false;
  }

  async #rest() {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, PAUSE_MS);
      this.#pause = () => (clearTimeout(timer), resolve());
    });
    this.#pause = null;
  }
}
