/* trace.js: a recording in a page: written from the log, read from a file.
 *
 * The format is that of `statestream record`: a header, then a line for each frame. So a trace can be played with
 * `statestream replay`, and a recording can be looked at here.
 *
 * Invariants: a line that cannot be read is an error with its number. The states of a trace are those that the web
 * client makes of its frames. Some are kept, and the others made again from them.
 */
import { Replica } from "../replica.js";

const VERSION = 1;
const KEYFRAME = 100; // frames from one state that is kept to the next
const HEARTBEAT = 15_000;
export const MAX_BYTES = 64 << 20;

/** The lines of a recording of segments of the log, of which the first has a state to begin with. */
export function recorded(segments, { url, slices, now }) {
  const began = segments[0].entries[0]?.timestamp ?? now, lines = [{ recording: VERSION, url, slices, began }];
  let last = 0;
  const write = (event, id, timestamp, data) => {
    last = Math.max(last, timestamp - began);
    lines.push({ at: last, event, id, data: { type: event, ...data, timestamp } });
  };
  for (const [number, { base, entries, within }] of segments.entries()) {
    const { state: slices, versions, position } = base, first = entries[0];
    if (number === 0 || within > 0) {
      const reason = first?.reason ?? "start";
      write("state.initial", position, first?.timestamp ?? now, { reason, position, slices, versions, heartbeat: HEARTBEAT });
    }
    for (const together of framesOf(entries.slice(within))) {
      const { position, timestamp, cause } = together[0], updates = together.map(contentOf);
      if (cause === null) write("state.catchup", position, timestamp, { position, updates });
      else write("state.update", position, timestamp, { ...updates[0], cause });
    }
  }
  return `${lines.map((line) => JSON.stringify(line)).join("\n")}\n`;
}

/** The entries of each frame: those without a cause, at one position, came as one catch-up. */
function framesOf(entries) {
  const frames = [];
  for (const entry of entries) {
    const last = frames.at(-1)?.[0];
    if (entry.cause === null && last?.cause === null && last.position === entry.position) frames.at(-1).push(entry);
    else frames.push([entry]);
  }
  return frames;
}

function contentOf({ slice, from, version, kind, patches, value }) {
  const content = kind === "removed" ? { removed: true } : kind === "value" ? { value } : { patches };
  return { slice, from, version, ...content };
}

/** A recording that was read. `entries` are its changes, in order. */
export class Trace {
  entries = [];
  #frames = [];
  #kept = []; // {at, state, versions, position}: the state before frame `at`
  #frameOf = new Map(); // from the number of an entry to the frame after which its state is

  constructor(text) {
    const lines = text.split("\n");
    lines.pop(); // what has no line end was cut off
    const header = parsed(lines[0], 1);
    if (header?.recording !== VERSION) throw new Error(`line 1: expected a recording of version ${VERSION}`);
    this.began = header.began;
    const replica = new Replica();
    for (const [at, line] of lines.slice(1).entries()) this.#read(replica, parsed(line, at + 2), at);
    if (!replica.begun) throw new Error("the recording has no state");
  }

  #read(replica, frame, at) {
    const { event, id, data } = frame ?? {};
    if (typeof event !== "string" || typeof id !== "string") throw new Error(`line ${at + 2}: expected a frame`);
    if (at % KEYFRAME === 0) this.#keep(replica);
    const { versions } = replica, after = replica.position ?? id;
    let updates = [];
    try {
      updates = replica.apply({ type: event, data: JSON.stringify(data), lastId: id });
    } catch {
      // it did not fit the recorded client either, which then asked for the whole state
    }
    this.#frames.push({ type: event, data, lastId: id });
    for (const update of updates) {
      const from = Object.hasOwn(versions, update.slice ?? "") ? versions[update.slice] : 0;
      const version = update.version ?? seqOf(id);
      this.#frameOf.set(this.entries.length, this.#frames.length);
      this.entries.push({ ...update, version, from, after, cause: update.cause ?? null, number: this.entries.length, bytes: null, text: null });
    }
  }

  #keep({ state, versions, position, begun }) {
    this.#kept.push({ at: this.#frames.length, state, versions, position, begun });
  }

  /** The state after an entry; before the first one if there is none. */
  stateAfter(entry) {
    return this.#stateAt(entry === null ? 0 : this.#frameOf.get(entry.number));
  }

  /** The state before an entry. */
  stateBefore(entry) {
    return this.#stateAt(this.#frameOf.get(entry.number) - 1);
  }

  #stateAt(frame) {
    const kept = this.#kept[Math.min(Math.floor(frame / KEYFRAME), this.#kept.length - 1)];
    const replica = Object.assign(new Replica(), { state: kept.state, versions: kept.versions, position: kept.position, begun: kept.begun });
    for (const { type, data, lastId } of this.#frames.slice(kept.at, frame)) {
      try {
        replica.apply({ type, data: JSON.stringify(data), lastId });
      } catch {
        // as above
      }
    }
    return replica.state;
  }
}

export const seqOf = (position) => Number(position?.split(".")[0] ?? 0);

function parsed(line, number) {
  try {
    return JSON.parse(line);
  } catch {
    throw new Error(`line ${number}: expected JSON`);
  }
}
