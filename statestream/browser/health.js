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
    const heard = Date.now(); // the wall clock goes on while a page is frozen
    const look = () => {
      const beats = (Date.now() - heard) / heartbeat, limit = beats < DEGRADED ? DEGRADED : FAILED;
      clearTimeout(this.#timer);
      if (beats < limit) this.#timer = setTimeout(look, Math.min((limit - beats) * heartbeat, MAX_MS));
      this.#set(beats < DEGRADED ? "healthy" : beats < FAILED ? "degraded" : "failed");
    };
    look();
  }

  /** The stream has ended. */
  stop() {
    clearTimeout(this.#timer);
    this.#set("failed");
  }

  #set(level) {
    if (level === this.level) return;
    this.level = level;
    this.#onChange();
  }
}
