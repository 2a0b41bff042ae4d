/* probe.js: finds out whether streams pass again, while a client polls because they did not.
 *
 * Invariants: one attempt at a time, each with a deadline. After `stop` nothing is left of it.
 */
import { Deadline } from "./deadline.js";

const PROBE_MS = 60_000; // the pause after the first attempt; it doubles
const MAX_PROBE_MS = 900_000;

export class Probe {
  passed = false;
  #passes;
  #pause;
  #deadline = null;
  #timer;
  #stopped = false;

  /** `passes(deadline)` tries once, and gives whether a stream has begun. */
  constructor(passes, pause = PROBE_MS) {
    [this.#passes, this.#pause] = [passes, pause];
  }

  async try() {
    this.#deadline = new Deadline();
    this.passed = await this.#passes(this.#deadline);
    if (this.passed || this.#stopped) return;
    this.#timer = setTimeout(() => void this.try(), this.#pause * (1 + Math.random() / 2));
    this.#pause = Math.min(MAX_PROBE_MS, 2 * this.#pause);
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#deadline?.abort();
  }
}
