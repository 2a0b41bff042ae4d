/* health.js: the health of a stream: how long nothing has been received, measured in heartbeats.
 *
 * Invariants: time is the only input. A server sends something at least once per heartbeat, so silence is a symptom.
 */
import { MAX_MS } from "./deadline.js";

export const DEGRADED = 1.5;
export const FAILED = 2.5; // heartbeats without a byte, after which the connection counts as dead

/** `level` is `failed` until the first heartbeat. `onChange` is called after each change of it. */
export class HeartbeatMonitor {
  level = "failed";
  #onChange;
  #timer;

  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** Something was received; the next bytes are due within `heartbeat` ms. */
  received(heartbeat) {
    this.#set("healthy");
    this.#after(DEGRADED * heartbeat, () => {
      this.#set("degraded");
      this.#after((FAILED - DEGRADED) * heartbeat, () => this.#set("failed"));
    });
  }

  /** The stream has ended. */
  stop() {
    clearTimeout(this.#timer);
    this.#set("failed");
  }

  #after(ms, work) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(work, Math.min(ms, MAX_MS));
  }

  #set(level) {
    if (level === this.level) return;
    this.level = level;
    this.#onChange();
  }
}
