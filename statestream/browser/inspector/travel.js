/* travel.js: the past: changes and states of the journal, by the routes `GET /history` and `GET /state?at=`.
 *
 * The history can only be read forward from a position. The server names some positions, its landmarks, and the changes
 * between them are read when somebody goes there.
 *
 * Invariants: bounded; what was not used for longest is forgotten. The past never changes, except that it is forgotten or
 * folded: then the server refuses a position, and that is the error which its reader sees.
 */
import { shared } from "../sharing.js";
import { entryOf } from "./log.js";
import { seqOf } from "./trace.js";

const CHUNK = 1_000; // changes that are read at once
const KEPT = 30; // chunks, or states
const KEPT_CHARACTERS = 32 << 20; // of JSON, beyond the newest of them

/** What was asked for, with how large it is. What was not used for longest is forgotten. */
class Kept {
  #values = new Map();
  #size = 0;

  get(key) {
    const found = this.#values.get(key);
    if (found !== undefined) (this.#values.delete(key), this.#values.set(key, found));
    return found?.value;
  }

  set(key, value, size) {
    this.#size += size - (this.#values.get(key)?.size ?? 0);
    this.#values.delete(key);
    this.#values.set(key, { value, size });
    for (const [oldest, { size }] of this.#values) {
      if (oldest === key || (this.#values.size <= KEPT && this.#size <= KEPT_CHARACTERS)) break;
      this.#values.delete(oldest);
      this.#size -= size;
    }
    return value;
  }
}

export class Journal {
  authenticates = false; // whether the server knows people
  #server;
  #slices;
  #landmarks = []; // positions, in order
  #chunks = new Kept(); // from a landmark to the changes after it
  #states = new Kept();
  #present;

  /** `slices` as a query has them; undefined for every plain slice. `present()` is what is known of now, {state, position}. */
  constructor(server, slices, present) {
    [this.#server, this.#slices, this.#present] = [server, slices, present];
  }

  async open() {
    const { earliest, checkpoints, authenticates } = await this.#server.json("inspect/landmarks");
    this.authenticates = authenticates;
    this.#landmarks = [earliest, ...checkpoints];
  }

  get earliest() {
    return seqOf(this.#landmarks[0]);
  }

  /** The changes up to a position, oldest first, if they are few; at least `least` if there are as many. `size`: of
   * their text.
   */
  async until(position, least) {
    const seq = seqOf(position), far = this.#landmarks.findLast((each) => seqOf(each) <= seq - least);
    const base = far ?? this.#landmarks[0];
    if (base === undefined || base === position) return { base, entries: [], size: 0 };
    const limit = 4 * CHUNK, { entries, size } = await this.#read(base, limit);
    const kept = entries.filter(({ version }) => version <= seq);
    return entries.length === limit && kept.length === limit ? { base, entries: [], size: 0 } : { base, entries: kept, size };
  }

  /** The changes between two positions; none if they are many. */
  async between(after, until) {
    const { entries, size } = await this.#read(after, CHUNK);
    return { entries: entries.length === CHUNK ? [] : entries.filter(({ version }) => version <= seqOf(until)), size };
  }

  /** The newest change at or before `seq`, and the position before it; the change is null if none is kept. */
  async find(seq) {
    const landmark = this.#landmarks.findLast((each) => seqOf(each) <= seq) ?? this.#landmarks[0];
    const entries = await this.#after(landmark, seq);
    const found = entries.findLast(({ version }) => version <= seq) ?? null;
    const last = entries.at(-1);
    if (entries.length === CHUNK && last.version < seq && !this.#landmarks.includes(last.position)) {
      this.#landmarks.push(last.position); // there is more before the next landmark
      this.#landmarks.sort((a, b) => seqOf(a) - seqOf(b));
      return this.find(seq);
    }
    if (found !== null) return { entry: found, position: found.position };
    const before = this.#landmarks[this.#landmarks.indexOf(landmark) - 1];
    return before === undefined ? { entry: null, position: landmark } : this.#before(landmark, before);
  }

  /** What was changed last before a landmark, if that is not too far. */
  async #before(landmark, before) {
    const entries = await this.#after(before, seqOf(landmark));
    const found = entries.findLast(({ version }) => version <= seqOf(landmark));
    return found === undefined ? { entry: null, position: landmark } : { entry: found, position: landmark };
  }

  /** The changes after a landmark. Those that are known may end before `seq`: then they are read again. */
  async #after(landmark, seq) {
    const known = this.#chunks.get(landmark);
    if (known !== undefined && (known.entries.length === CHUNK || seq <= known.until)) return known.entries;
    const until = seqOf(this.#present().position), { entries, size } = await this.#read(landmark, CHUNK);
    return this.#chunks.set(landmark, { until, entries }, size).entries;
  }

  async #read(after, limit) {
    const text = await this.#server.text("history", { slices: this.#slices, after, limit, cause: "full" });
    let last = after;
    const entries = text.split("\n").filter(Boolean).map((line) => {
      const entry = { ...entryOf(JSON.parse(line)), after: last, bytes: null, text: null };
      last = entry.position;
      return entry;
    });
    return { entries, size: text.length };
  }

  /** {slices, versions} as of a position. What is the same now is shared, so it need not be compared again. */
  async stateAt(position) {
    const known = this.#states.get(position);
    if (known !== undefined) return known;
    const text = await this.#server.text("state", { slices: this.#slices, at: position });
    const then = JSON.parse(text), slices = shared(this.#present().state, then.slices);
    return this.#states.set(position, { ...then, slices }, text.length);
  }
}
