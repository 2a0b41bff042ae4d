/* log.js: the newest changes, and the states between which they lie.
 *
 * Changes are kept in segments. Each begins with a state, so the oldest can be dropped as a whole, and what is left can
 * still be exported. Values share what did not change, so a state costs little.
 *
 * Invariants: bounded. Entries never change, but for what is measured of them when they are first shown. Each has the
 * position `after` which it comes. They are in the order of their numbers; those that were read later lie between others.
 */
import { bytesOf } from "./format.js";

const SEGMENT = 250; // entries, after which a new segment begins
export const MOST = 5_000; // entries that are kept
const SEGMENT_BYTES = 8 << 20; // of text that was received, after which a new segment begins
const MOST_BYTES = 64 << 20; // that are kept

export class Log {
  segments = [];
  count = 0; // entries that came since the page was opened
  #length = 0;
  #bytes = 0;

  get length() {
    return this.#length;
  }

  get entries() {
    return this.segments.flatMap(({ entries }) => entries);
  }

  /** The number of the oldest entry that is kept. */
  get oldest() {
    return this.segments.find(({ entries }) => entries.length)?.entries[0].number ?? this.count;
  }

  /** Begins with a state; its value may be unknown (null), if only what follows it is known. */
  begin(base) {
    this.segments.push({ base, entries: [], within: 0, bytes: 0 });
  }

  /** Adds updates that lead from `before` to `after`, each {state, versions, position}. They came as so many bytes. Returns the
   * entries.
   */
  append(updates, before, after, bytes = 0) {
    const held = new Map(), added = [];
    const current = this.segments.at(-1);
    if (current?.entries.length >= SEGMENT || current?.bytes >= SEGMENT_BYTES) this.begin(before);
    for (const update of updates) {
      if (update.kind === "initial") {
        this.begin(after);
        held.clear();
        const version = Number(update.position.split(".")[0]);
        added.push(this.#add({ ...update, version, from: 0, after: update.position, cause: null }));
        this.segments.at(-1).within = Infinity; // the state is that after all of these updates
        continue;
      }
      const { slice, version } = update;
      const from = held.get(slice) ?? (Object.hasOwn(before.versions, slice) ? before.versions[slice] : 0);
      held.set(slice, update.kind === "removed" ? 0 : version);
      added.push(this.#add({ ...update, from, after: this.#last }));
    }
    const segment = this.segments.at(-1);
    segment.within = Math.min(segment.within, segment.entries.length);
    this.#count(segment, bytes);
    while ((this.#length > MOST || this.#bytes > MOST_BYTES) && this.segments.length > 1) this.#drop(this.segments.shift());
    return added;
  }

  /** Puts changes of the past before all others. They lead from `base`, whose state is not known, to the first state. */
  prepend(base, entries, bytes = 0) {
    const first = this.oldest - entries.length;
    const kept = entries.map((entry, at) => ({ ...entry, number: first + at, bytes: null, text: null }));
    this.segments.unshift({ base: { state: null, versions: null, position: base }, entries: kept, within: 0, bytes: 0 });
    this.#count(this.segments[0], bytes);
    this.#length += kept.length;
    return kept;
  }

  /** Puts in changes that were read later: in place of a catch-up, which is their sum, or before a whole state. */
  fill(group, changes, bytes = 0) {
    const [first] = group, index = this.segments.findIndex(({ entries }) => entries.includes(first)), whole = first.kind === "initial";
    const segment = this.segments[whole ? index - 1 : index];
    if (segment === undefined) return [];
    const at = whole ? segment.entries.length : segment.entries.indexOf(first), gone = whole ? 0 : group.length;
    if (at < segment.within) return [];
    const begin = whole ? segment.entries.at(-1)?.number ?? first.number - 1 : first.number; // numbers lie in between
    const step = (whole ? first.number - begin : gone) / (changes.length + 1);
    const kept = changes.map((change, n) => ({ ...change, number: begin + step * (n + 1), bytes: null, text: null }));
    segment.entries.splice(at, gone, ...kept);
    this.#length += kept.length - gone;
    this.#count(segment, bytes);
    return kept;
  }

  #count(segment, bytes) {
    segment.bytes += bytes;
    this.#bytes += bytes;
  }

  #drop({ entries, bytes }) {
    this.#length -= entries.length;
    this.#bytes -= bytes;
  }

  get #last() {
    const { base, entries } = this.segments.at(-1);
    return entries.at(-1)?.position ?? base.position;
  }

  #add(entry) {
    const kept = { ...entry, number: this.count, bytes: null, text: null };
    this.count += 1;
    this.#length += 1;
    this.segments.at(-1).entries.push(kept);
    return kept;
  }
}

/** Entries that stand for changes between two positions, which the server has sent as one: [{group, after}, …]. */
export function sums(entries, before) {
  const found = [];
  for (const entry of entries.filter(({ cause }) => cause === null)) {
    const last = found.at(-1)?.group;
    if (entry.kind === "initial") {
      if (entry.reason === "lagged" && before) found.push({ group: [entry], after: before });
    } else if (last?.[0].position === entry.position && last[0].kind !== "initial") last.push(entry);
    else found.push({ group: [entry], after: entry.after });
  }
  return found;
}

/** An entry of the log, from a line of `GET /history`. */
export function entryOf({ slice, from, version, position, cause, timestamp, ...content }) {
  const kind = content.removed ? "removed" : "value" in content ? "value" : "patches";
  const more = kind === "removed" ? {} : { [kind]: content[kind] };
  return { kind, slice, from, version, position, cause, timestamp, ...more };
}

/** The bytes of what a change did, measured when somebody first wants to know. */
export const bytesOfEntry = (entry) => (entry.bytes ??= bytesOf(entry.patches ?? entry.value ?? null));

/** Whether an entry is one that a filter lets through. */
export function matches(entry, { words, slice, action, actor }) {
  if (slice && entry.slice !== slice && !entry.slice?.startsWith(`${slice}/`)) return false;
  if (action && entry.cause?.type !== action) return false;
  if (actor && (entry.cause?.actor ?? "") !== actor) return false;
  if (!words.length) return true;
  entry.text ??= [entry.cause?.type, entry.slice, entry.cause?.actor, entry.cause?.id, entry.position].join(" ").toLowerCase();
  return words.every((word) => (word.startsWith("-") && word.length > 1 ? !entry.text.includes(word.slice(1)) : entry.text.includes(word)));
}
