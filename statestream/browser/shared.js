/* shared.js: the stream that all clients of a group share: one of them leads, and the others apply what it passes on.
 *
 * Invariants: whoever has the group's lock leads; the browser passes it on when its holder is closed or crashes. A page
 * that is put away gives it up immediately, as it may be frozen before the next step. Messages of one channel arrive
 * everywhere in one order, so a new leader that has heard itself has heard all that the one before has said, and is
 * where everybody is. A client follows one leader, and ignores any other. A client that finds a gap asks for a first
 * frame. Where the group cannot go on, each goes on alone, at its own position.
 */
import { Gap, Lost, StatestreamError } from "./errors.js";
import { DEGRADED } from "./health.js";
import { Leader } from "./leader.js";
import { isTemporary } from "./refusals.js";
import { covers, same } from "./selection.js";
import { Connection } from "./stream.js";

const QUIET_MS = 5_000; // before it asks whether there still is a leader, while it knows no heartbeat
const PATIENCE_MS = 1_000; // with a leader that does not answer: its page may stand still; with a server that is busy
const MAX_PATIENCE_MS = 16_000; // it doubles each time: otherwise, nobody would lead for long on a busy machine
const ECHO_MS = 500; // after which a leader begins without having heard itself

/** The same as a Connection, with whose options it is made. */
export class SharedStream {
  phase = "connecting";
  error = null;
  #group;
  #options;
  #id;
  #channel;
  #leader = null;
  #term = null; // the id of whom this one follows
  #covered = false; // whether the stream has all its slices
  #synced = false; // whether the next frame continues what it holds
  #announced = null; // the phase and error of whom it follows
  #echo = () => {};
  #leave = () => {};
  #rouse = () => {};
  #timer;
  #patience = PATIENCE_MS;
  #heard = 0; // when a leader was heard, by the wall clock, which goes on while a page stands still
  #turn;
  #steals = false;
  #away = false;
  #over = false; // whether it takes part no more
  #alone = null;

  constructor(group, options) {
    [this.#group, this.#options] = [group, options];
  }

  async run() {
    const name = await this.#group.name();
    while (!this.#over) {
      if (this.#away) await new Promise((resolve) => (this.#rouse = resolve));
      else await this.#join(name);
    }
    await this.#alone?.run();
  }

  wake(suspicious = false) {
    this.#away = false;
    this.#rouse();
    if (this.#alone !== null) this.#alone.wake(suspicious);
    else if (this.#leader !== null) this.#leader.wake(suspicious);
    else {
      const isStale = this.phase === "live" && Date.now() - this.#heard > DEGRADED * this.#options.replica.heartbeat;
      if (isStale) this.#enter("connecting", null); // until the leader has said what was missed
      if (!this.#synced) this.#greet();
      this.#ask("wake");
    }
  }

  sleep() {
    this.#away = true;
    this.#alone?.sleep();
    if (!this.#over) this.#enter("waiting", new Lost("the page is not in use"));
    this.#leave();
  }

  close() {
    if (this.#alone !== null) this.#alone.close();
    else this.#end(null);
  }

  #end(error) {
    this.#over = true;
    this.#enter("ended", error);
    this.#leave();
    this.#rouse();
  }

  #enter(phase, error) {
    [this.phase, this.error] = [phase, error];
    this.#options.onPhase();
  }

  /** Goes on with a connection of its own. */
  #part() {
    const onPhase = () => this.#enter(this.#alone.phase, this.#alone.error);
    this.#over = true;
    this.#alone = new Connection({ ...this.#options, onPhase });
    if (this.#away) this.#alone.sleep();
    this.#leave();
  }

  /** Takes part until it leaves. */
  async #join(name) {
    const left = new AbortController(), { signal } = left;
    this.#id = crypto.randomUUID();
    [this.#term, this.#covered, this.#synced, this.#announced] = [null, false, false, null];
    if (this.phase !== "connecting") this.#enter("connecting", this.error);
    const channel = (this.#channel = new BroadcastChannel(name));
    channel.onmessage = ({ data }) => signal.aborted || this.#hear(data);
    this.#leave = () => (left.abort(), this.#leader?.close(), this.#turn?.abort());
    try {
      await navigator.locks.request(`${name} ${this.#id} ${JSON.stringify(this.#group.selection)}`, async () => {
        while (!signal.aborted) await this.#stand(name, signal);
      });
    } catch (error) {
      if (!(error instanceof DOMException)) console.error(error); // a fault of this client; otherwise, there are no locks
      if (!this.#over) this.#part();
    } finally {
      clearTimeout(this.#timer);
      channel.close();
      this.#channel = null;
    }
  }

  /** Follows until it leads, and leads until it cannot. */
  async #stand(name, signal) {
    const turn = (this.#turn = new AbortController()), over = aborted(turn.signal);
    const options = this.#steals ? { steal: true } : { signal: turn.signal };
    this.#steals = false;
    this.#greet();
    try {
      await navigator.locks.request(name, options, () => Promise.race([this.#lead(name, signal, turn.signal), over]));
    } catch (error) {
      if (error.name !== "AbortError") throw error; // it left, or others take this one for dead
    } finally {
      turn.abort(); // the lock may have been stolen from one that does not lead yet
      this.#leader?.close();
      [this.#leader, this.#synced] = [null, false];
    }
  }

  async #lead(name, signal, turn) {
    await this.#hearAll(name);
    if (signal.aborted || turn.aborted) return;
    clearTimeout(this.#timer);
    const leader = (this.#leader = new Leader({
      prefix: name,
      id: this.#id,
      group: this.#group,
      options: this.#options,
      take: (event) => this.#take(event),
      say: (message) => this.#say(message),
      onPhase: (phase, error) => this.#enter(phase, error),
    }));
    this.#synced = true;
    const error = await leader.run();
    if (error === null || signal.aborted) return;
    if (!leader.isMixed) return this.#end(error);
    this.#say({ kind: "alone" });
    this.#part();
  }

  /** Waits until all has been heard that was said before now. */
  async #hearAll(name) {
    const voice = new BroadcastChannel(name);
    await new Promise((resolve) => {
      this.#echo = resolve;
      voice.postMessage({ kind: "lead", from: this.#id });
      setTimeout(resolve, ECHO_MS);
    });
    voice.close();
  }

  #say(message) {
    this.#channel?.postMessage({ ...message, from: this.#id });
  }

  /** Asks for a place in the stream: at its own position, if it has one. */
  #greet() {
    const { position } = this.#options.replica;
    this.#ask("hello", { selection: this.#group.selection, position });
  }

  #ask(kind, more = {}) {
    if (this.#leader !== null || this.#over || this.#away) return;
    if (this.phase === "waiting" && !this.#synced) this.#enter("connecting", this.error);
    this.#say({ kind, ...more });
    this.#expect(this.#patience * (1 + Math.random()), () => this.#takeOver()); // not all at the same time
  }

  #expect(ms, otherwise) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(otherwise, ms);
  }

  #takeOver() {
    this.#steals = true;
    this.#persevere();
    this.#turn?.abort();
  }

  #hear(message) {
    const { kind, from } = message;
    if (from === this.#id) return this.#echo(); // nothing else that it says comes back
    if (kind === "lead" || (kind === "state" && this.#term === null)) this.#term = from;
    if (this.#leader !== null) return void this.#leader.hear(message);
    if (kind === "alone" || (kind === "refused" && same(message.selection, this.#group.selection))) return this.#part();
    if (from !== this.#term) return;
    this.#heard = Date.now();
    if (kind === "lead" && !this.#synced) this.#greet();
    else if (kind === "state") this.#follow(message);
    else if (kind === "event") this.#receive(message);
    if (this.phase === "waiting" && !this.#synced) return; // it will greet again
    if (kind === "later" && same(message.selection, this.#group.selection)) return this.#postpone(message.error);
    const { heartbeat } = this.#options.replica;
    if (this.#synced && (kind === "event" || kind === "beat")) this.#options.monitor.received(heartbeat);
    const insist = () => (this.#synced ? this.#ask("ping") : this.#greet()); // its greeting may not have been heard
    this.#expect(heartbeat === null ? QUIET_MS : DEGRADED * heartbeat, insist);
  }

  /** Waits, because the server does not provide the slices now, and then greets again. */
  #postpone(error) {
    if (this.#synced) return;
    this.#enter("waiting", revived(error));
    this.#expect(Math.max(this.#patience, error.retryAfter ?? 0), () => this.#greet());
    this.#persevere();
  }

  #persevere() {
    this.#patience = Math.min(MAX_PATIENCE_MS, 2 * this.#patience);
  }

  #follow({ phase, error, selection }) {
    this.#announced = { phase, error: error && revived(error) };
    if (selection !== undefined) this.#covered = covers(selection, this.#group.selection);
    if (this.#synced) this.#enter(phase, this.#announced.error);
    if (selection === undefined || this.#covered || !this.#synced) return; // or it waits for the answer to its greeting
    this.#synced = false;
    this.#greet();
  }

  #receive({ to, event }) {
    const isFor = to === undefined ? this.#synced || event.type === "state.initial" : to === this.#id && !this.#synced;
    if (isFor && this.#covered) this.#take(event);
  }

  #take(event) {
    const { replica, onEvent } = this.#options;
    let updates;
    try {
      updates = replica.apply(event);
    } catch (error) {
      if (!(error instanceof Gap)) throw error;
      replica.forgetPosition();
      this.#synced = false;
      return this.#leader === null ? this.#greet() : this.#take(this.#leader.firstFrame(this.#group.selection));
    }
    if (!this.#synced && this.#announced !== null) {
      this.#enter(this.#announced.phase, this.#announced.error);
    }
    this.#synced = true;
    this.#patience = PATIENCE_MS;
    onEvent(event, updates);
  }
}

/** Is over when the signal is aborted. */
const aborted = (signal) => new Promise((resolve) => signal.addEventListener("abort", resolve));

/** An error that came as a message. */
function revived({ detail, ...more }) {
  return more.status === 0 || isTemporary(more.status) ? new Lost(detail, more) : new StatestreamError(detail, more);
}
