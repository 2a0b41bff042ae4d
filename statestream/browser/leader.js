/* leader.js: the one of many clients that has the connection: it follows what all of them want, and passes frames on.
 *
 * Each client holds a lock whose name says what it selects, so the leader finds out what is wanted, and by a lock that
 * it gets, that somebody has left or crashed.
 *
 * Invariants: a frame is passed on after it was applied, so all are at the leader's position. A slice is added at that
 * position, by `GET /state` with `at`, before a stream with it resumes there. What is refused to one client, for good
 * or for now, does not affect the others: those who have a stream continue while the server is asked for more.
 */
import { Deadline, OVER } from "./deadline.js";
import { Gap, Lost } from "./errors.js";
import { errorOf } from "./refusals.js";
import { covers, same, selects, unionOf } from "./selection.js";
import { Connection } from "./stream.js";

const RESPONSE_MS = 15_000;
const SHRINK_MS = 3_000; // after somebody has left: a page that is loaded again comes back
const GONE = 410; // the position is not kept, or not part of the history
const FAILED = 500; // what makes the server fail is likely to do so again

export class Leader {
  #prefix; // of the names of the clients' locks
  #id;
  #group;
  #token;
  #url;
  #replica;
  #connection;
  #take;
  #say;
  #onPhase;
  #admitted; // what the stream selects
  #others = new Map(); // what each of the others selects, by the name of its lock; undefined if it cannot be had now
  #newcomers = new Map(); // what they have said, by id
  #left = new AbortController();
  #asking = null;
  #prepared = false;
  #alone = false; // whether the others have to go on without it
  #shrinking;
  #beat = 0;

  /** `replica` is the client's own, `take(event)` gives it a frame, and `say(message)` tells the others something. */
  constructor({ prefix, id, group, options, take, say, onPhase }) {
    const { url, token, replica, monitor } = options;
    [this.#prefix, this.#id, this.#group] = [prefix, id, group];
    [this.#token, this.#url, this.#admitted] = [token, new URL(url), group.selection];
    [this.#take, this.#say, this.#onPhase] = [take, say, onPhase];
    this.#replica = replica.copy();
    this.#connection = new Connection({
      url: this.#url,
      token,
      replica: this.#replica,
      monitor: { received: (heartbeat) => (monitor.received(heartbeat), this.#heard(heartbeat)) },
      onEvent: (event) => this.#relay(event),
      onPhase: () => this.#tell(),
      prepare: () => this.#prepare(),
      accept: (response) => this.#accept(response),
    });
  }

  /** Leads until it is closed or refused for good. Returns the refusal, or null. */
  async run() {
    await this.#connection.run();
    this.close();
    return this.#connection.error;
  }

  close() {
    this.#left.abort();
    clearTimeout(this.#shrinking);
    this.#asking?.abort();
    this.#connection.close();
  }

  wake(suspicious) {
    this.#connection.wake(suspicious);
  }

  /** Whether the stream has selected what others want, so that a refusal may be due to that. */
  get isMixed() {
    return !same(this.#admitted, this.#group.selection);
  }

  /** What another client has said. */
  hear({ kind, from, selection, position }) {
    if (!["hello", "ping", "wake"].includes(kind)) return; // of a leader that does not know yet that it is none
    if (this.#alone) return this.#say({ kind: "alone" });
    if (kind === "wake" || (kind === "ping" && this.#connection.phase === "live")) this.wake();
    if (kind !== "hello") return this.#tell();
    const name = `${this.#prefix} ${from} ${JSON.stringify(selection)}`;
    this.#notice(name);
    this.#others.set(name, selection);
    this.#newcomers.set(from, { selection, position });
    this.#tell();
    this.#greet();
    void this.#extend();
  }

  /** The first frame for a client that has lost its place. */
  firstFrame(selection, position = null) {
    return this.#replica.firstFrame((name) => selects(selection, name), position);
  }

  /** Gives those a first frame whose slices the stream has. */
  #greet() {
    if (!this.#prepared) return; // they do not know yet what the stream has, and would ignore it
    if (this.#replica.position === null || this.#replica.heartbeat === null) return; // its first frame is everybody's
    for (const [to, { selection, position }] of this.#newcomers) {
      if (!covers(this.#admitted, selection)) continue;
      this.#newcomers.delete(to);
      this.#say({ kind: "event", to, event: this.firstFrame(selection, position) });
    }
  }

  #relay(event) {
    const { type, data, lastId } = event;
    this.#take(event);
    if (this.#others.size > 0 && !this.#alone) this.#say({ kind: "event", event: { type, data, lastId } });
    this.#greet();
    void this.#extend();
  }

  /** Tells the others that the connection is alive, if no frame does. */
  #heard(heartbeat) {
    if (this.#others.size === 0 || performance.now() - this.#beat < heartbeat / 2) return;
    this.#beat = performance.now();
    this.#say({ kind: "beat" });
  }

  #tell() {
    const { phase, error } = this.#connection;
    if (!this.#prepared && phase === "connecting") return this.#say({ kind: "here" }); // the server has said nothing yet
    if (phase === "ended") return; // the next leader finds out whether that concerns everybody
    this.#onPhase(phase, error);
    if (this.#alone) return;
    const selection = this.#prepared ? this.#admitted : undefined; // the stream may come to have more slices
    this.#say({ kind: "state", phase, error: error && { ...error }, selection });
  }

  /** Shares nothing if the server decides by a cookie who sees what: it may be that of another person by now. */
  #accept(response) {
    this.#alone = !this.#group.isDeclared && /cookie|\*/i.test(response.headers.get("Vary") ?? "");
    if (this.#alone) this.#say({ kind: "alone" });
  }

  /** Asks for what newcomers want while the stream goes on, and continues it with that. */
  async #extend() {
    const [missing] = [...this.#newcomers.values()].filter(({ selection }) => !covers(this.#admitted, selection));
    if (missing === undefined || this.#asking !== null || !this.#connection.isOpen) return;
    const isWorthIt = await this.#admit(missing.selection).catch(() => true); // otherwise, the others go on as before
    if (isWorthIt) this.#connection.reopen();
  }

  /** Makes the next connection the one that all want by now. */
  async #prepare() {
    this.#asking?.abort();
    const { held } = await navigator.locks.query();
    for (const { name } of this.#alone ? [] : held) if (name.startsWith(`${this.#prefix} `)) this.#notice(name);
    for (const selection of this.#wanted()) {
      if (this.#replica.position !== null && !covers(this.#admitted, selection)) await this.#admit(selection);
    }
    this.#admitted = this.#granted();
    this.#replica.restrict((name) => selects(this.#admitted, name));
    if (this.#admitted !== null) this.#url.searchParams.set("slices", String(this.#admitted));
    this.#prepared = true;
    this.#tell();
    this.#greet();
  }

  /** The different selections of all clients. */
  #wanted() {
    const all = [this.#group.selection, ...this.#others.values()].filter((selection) => selection !== undefined);
    return [...new Map(all.map((selection) => [JSON.stringify(selection), selection])).values()];
  }

  #granted() {
    return unionOf(this.#wanted().filter((selection) => covers(this.#admitted, selection)));
  }

  /** Adds slices at the position of the replica. Returns whether it has. Throws a Gap if that position is gone. */
  async #admit(selection) {
    const url = new URL("../state", this.#url), missing = selection.filter((item) => !covers(this.#admitted, [item]));
    url.search = new URLSearchParams({ slices: String(missing), at: this.#replica.position });
    try {
      this.#replica.adopt(await this.#answer(url));
      this.#admitted = unionOf([this.#admitted, selection]);
      return true;
    } catch (error) {
      if (error.status === GONE) throw new Gap("the position is gone", { cause: error });
      if (error === OVER || !(error.status || error instanceof Lost)) throw error;
      this.#decline(selection, error);
      return false;
    }
  }

  async #answer(url) {
    const deadline = (this.#asking = new Deadline());
    deadline.extend(RESPONSE_MS);
    try {
      const response = await this.#token.request(url, { headers: { Accept: "application/json" } }, deadline);
      if (response.status !== 200) throw await errorOf(response);
      return await deadline.race(response.json()).catch((cause) => {
        throw new Lost("the response was cut off", { cause });
      });
    } finally {
      deadline.abort();
      if (this.#asking === deadline) this.#asking = null;
    }
  }

  /** Whoever wants what the server refuses asks for it alone; if the refusal is temporary, they ask here again. */
  #decline(selection, error) {
    for (const [id, newcomer] of this.#newcomers) if (same(newcomer.selection, selection)) this.#newcomers.delete(id);
    for (const [name, wanted] of this.#others) if (same(wanted, selection)) this.#others.set(name, undefined);
    const isForNow = error instanceof Lost && error.status !== FAILED;
    this.#say(isForNow ? { kind: "later", selection, error: { ...error } } : { kind: "refused", selection });
  }

  /** Remembers what a client wants, until it gives its lock up or dies. */
  #notice(name) {
    const [, id, text] = /^ (\S+) (.*)$/s.exec(name.slice(this.#prefix.length));
    if (this.#others.has(name) || id === this.#id) return;
    const { signal } = this.#left;
    this.#others.set(name, JSON.parse(text));
    const forget = () => {
      this.#others.delete(name);
      this.#newcomers.delete(id);
      clearTimeout(this.#shrinking);
      this.#shrinking = setTimeout(() => this.#shrink(), SHRINK_MS);
    };
    navigator.locks.request(name, { signal }, forget).catch(() => {}); // it leads no more
  }

  #shrink() {
    if (!same(this.#granted(), this.#admitted)) this.#connection.reopen();
  }
}
