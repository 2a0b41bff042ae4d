/* model.js: what the page knows: the state of now, the log, a trace, and where in time somebody looks.
 *
 * Invariants: it draws nothing. Everything in it is bounded. Whoever looks at the past keeps following the present, so
 * the way back is at once. Of several places in time that are asked for, the last one counts.
 */
import { connect } from "../statestream.js";
import { Log, matches, sums } from "./log.js";
import { recorded, seqOf, Trace } from "./trace.js";
import { Journal } from "./travel.js";

const RECALLED = 200; // changes from before the page was opened that the log begins with
const KNOWN = 300; // names that filters offer
const UNREAD = "the history cannot be read";
const NOTHING = Object.freeze({});

export class Model {
  log = new Log();
  shown = []; // the entries that the filter lets through
  vanished = 0; // how many of them have left at the beginning since the last drawing
  filter = { words: [], slice: "", action: "", actor: "" };
  known = { slice: new Set(), action: new Set(), actor: new Set() };
  client = null;
  trace = null;
  past = null; // {seq, position, entry, state}, if somebody looks at the past
  target = null; // the seq that was asked for last
  selected = null;
  pin = null; // {entry, state, position}
  paused = false;
  missed = 0; // changes since the pause
  changes = 0; // ever
  notice = "";
  slices;
  #before;
  #counted = 0; // bytes that the server had sent before
  #end = NOTHING; // the state at the end of the trace
  #floor = -Infinity; // entries with lower numbers are skipped
  #unread = null; // the position up to which the history could not be read
  #wanted = null;
  #going = null;
  #onChange;
  #onUpdates;

  /** `onChange()`: something is to be drawn. `onUpdates(updates, before, state)`: the state of now has changed. */
  constructor(server, { onChange, onUpdates }) {
    [this.server, this.#onChange, this.#onUpdates] = [server, onChange, onUpdates];
  }

  /** Follows slices, in place of what it has followed before. */
  follow(slices) {
    this.client?.close();
    this.slices = slices;
    const token = this.server.token || undefined;
    this.client = connect(this.server.root, { slices, token, fetch: this.server.fetch });
    this.journal = new Journal(this.server, slices, () => this.client);
    this.#before = undefined;
    this.log = new Log();
    Object.assign(this, { shown: [], past: null, target: null, selected: null, pin: null, missed: 0, notice: "" });
    const { client } = this;
    client.subscribe((updates) => this.#received(updates));
    this.#unread = null;
    client.ready.then(() => this.#recall(client.position), () => {});
  }

  #received(updates) {
    const { state, versions, position } = this.client, before = this.#before;
    if (updates.length) {
      this.#before = { state, versions, position };
      this.changes += updates.length;
      const { received } = this.server, added = this.log.append(updates, before ?? this.#before, this.#before, received - this.#counted);
      this.#counted = received;
      this.#onUpdates(updates, before?.state ?? NOTHING, state);
      this.#show(added);
      for (const { group, after } of sums(added, before?.position)) void this.#fill(group, after);
      if (this.#unread !== null) void this.#recall(this.#unread); // the server answers again
    }
    this.#onChange();
  }

  /** Reads what happened before the page was opened, up to the position that it began with. */
  async #recall(position) {
    const { client, journal, log } = this;
    this.#unread = null;
    try {
      await journal.open();
      const { base, entries, size } = await journal.until(position, RECALLED);
      if (client !== this.client) return;
      if (this.notice.startsWith(UNREAD)) this.notice = "";
      if (!entries.length) return;
      const kept = log.prepend(base, entries, size);
      for (const entry of kept) this.#note(entry);
      this.#refilter();
    } catch (error) {
      if (client !== this.client) return;
      this.#unread = position;
      this.say(`${UNREAD}: ${error.message}`);
    }
  }

  /** Reads what the server has sent as one. If it cannot be read any more, the log stays as it is. */
  async #fill(group, after) {
    const { log, journal } = this, { entries, size } = await journal.between(after, group[0].position).catch(() => ({ entries: [] }));
    if (log !== this.log || !entries.length) return;
    for (const entry of log.fill(group, entries, size)) this.#note(entry);
    if (!this.paused) this.#refilter();
  }

  say(notice) {
    this.notice = notice;
    this.#onChange();
  }

  // the log

  #show(added) {
    for (const entry of added) this.#note(entry);
    if (this.paused) this.missed += added.length;
    if (this.trace !== null || this.paused) return;
    this.shown.push(...added.filter((entry) => this.#passes(entry)));
    const { oldest } = this.log, kept = this.shown.findIndex(({ number }) => number >= oldest);
    if (kept !== 0) this.vanished += this.shown.splice(0, kept < 0 ? Infinity : kept).length;
  }

  #note({ slice, cause }) {
    for (const [kind, name] of [["slice", slice], ["action", cause?.type], ["actor", cause?.actor]])
      if (name !== undefined && this.known[kind].size < KNOWN) this.known[kind].add(name);
  }

  #passes = (entry) => entry.number >= this.#floor && (matches(entry, this.filter) || entry === this.pin?.entry);

  #refilter() {
    this.shown = (this.trace ?? this.log).entries.filter(this.#passes);
    this.#onChange();
  }

  setFilter(change) {
    this.filter = { ...this.filter, ...change };
    this.#refilter();
  }

  pause(paused) {
    [this.paused, this.missed] = [paused, 0];
    this.#refilter();
  }

  select(entry) {
    this.selected = entry;
    this.#onChange();
  }

  /** The log begins with an entry from now on. */
  skipTo(entry) {
    this.#floor = entry.number;
    this.#refilter();
  }

  get skips() {
    return this.#floor > -Infinity;
  }

  skipNothing() {
    this.#floor = -Infinity;
    this.#refilter();
  }

  // time

  /** The state that is shown: of the past, of a trace, or of now. */
  get state() {
    return this.past?.state ?? this.client?.state ?? NOTHING;
  }

  /** The newest state: of the server, or of the trace. */
  get now() {
    return this.trace ? this.#end : this.client?.state ?? NOTHING;
  }

  get earliest() {
    return this.trace ? seqOf(this.trace.entries[0]?.after) : this.journal?.earliest ?? 0;
  }

  get head() {
    return this.trace ? this.trace.entries.at(-1)?.version ?? 0 : seqOf(this.client?.position);
  }

  /** Goes to where `seq` was the newest change. */
  goTo(seq) {
    this.target = Math.min(Math.max(seq, this.earliest), this.head);
    return this.#go(async () => this.#found(this.target));
  }

  /** Goes to where an entry was the newest change. */
  jump(entry) {
    this.target = entry.version;
    return this.#go(async () => ({ entry, position: entry.position }));
  }

  async #go(find) {
    this.#wanted = find;
    this.#onChange();
    this.#going ??= this.#travel();
    return this.#going;
  }

  async #travel() {
    try {
      while (this.#wanted !== null) {
        const find = this.#wanted, seq = this.target;
        this.#wanted = null;
        const { entry, position } = await find(), { state } = await this.stateAfter(entry, position);
        if (this.target === null) return;
        this.past = { seq, entry, position, state };
        [this.selected, this.notice] = [entry ?? this.selected, ""];
        this.#onChange();
      }
    } catch (error) {
      [this.target, this.#wanted] = [this.past?.seq ?? null, null];
      if (error.status === 410) await this.journal.open().catch(() => {}); // some of it was trimmed: it begins later now
      this.say(`the past cannot be shown: ${error.message}`);
    } finally {
      this.#going = null;
    }
  }

  async #found(seq) {
    if (this.trace) return found(this.trace.entries, seq, null);
    const { segments } = this.log, { base } = segments[0] ?? {};
    if (base === undefined || seq < seqOf(base.position)) return this.journal.find(seq);
    const { entries } = this.log, next = entries.find(({ version }) => version > seq);
    const { entry, position } = found(entries, seq, base.position);
    if (next?.cause === null && seqOf(position) < seq) return this.journal.find(seq); // it stands for several changes
    return { entry, position };
  }

  async stateAfter(entry, position = entry.position) {
    return this.trace ? { state: this.trace.stateAfter(entry) } : { state: (await this.journal.stateAt(position)).slices };
  }

  async stateBefore(entry) {
    return this.trace ? this.trace.stateBefore(entry) : (await this.journal.stateAt(entry.after)).slices;
  }

  /** Back to now; in a trace, to its end. */
  live() {
    [this.past, this.target, this.#wanted] = [null, null, null];
    if (this.trace) void this.goTo(this.head);
    this.#onChange();
  }

  /** Keeps a moment to compare with: that of an entry. */
  async setPin(entry) {
    this.pin = null;
    if (entry !== null) {
      try {
        const { state } = await this.stateAfter(entry);
        this.pin = { entry, state, position: entry.position };
      } catch (error) {
        this.say(`this moment cannot be pinned: ${error.message}`);
      }
    }
    this.#refilter();
  }

  // traces

  /** The log as a recording. */
  async exported() {
    let { segments } = this.log;
    const [first] = segments;
    if (first?.base.state === null) {
      try {
        const { slices: state, versions } = await this.journal.stateAt(first.base.position);
        first.base = { ...first.base, state, versions };
      } catch {
        segments = segments.slice(1); // it is kept no longer
      }
    }
    if (!segments.length) throw new Error("there is no state yet");
    const slices = this.slices === undefined ? null : this.slices.split(",");
    return recorded(segments, { url: this.server.root.href.replace(/\/$/, ""), slices, now: Date.now() });
  }

  /** Shows a recording in place of the server. Throws an Error if it is none. */
  open(text) {
    this.trace = new Trace(text);
    this.#end = this.trace.stateAfter(this.trace.entries.at(-1));
    this.#look();
    this.live();
  }

  close() {
    this.trace = null;
    this.#look();
    this.live();
  }

  #look() {
    Object.assign(this, { past: null, target: null, selected: null, pin: null });
    this.skipNothing();
  }
}

function found(entries, seq, position) {
  const entry = entries.findLast((each) => each.version <= seq) ?? null;
  return { entry, position: entry?.position ?? position };
}
