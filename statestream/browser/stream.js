/* stream.js: the connection that keeps a replica up to date: it reads, applies, and after a loss resumes where it was.
 *
 * Something on the way may hold streams back. A connection that falls silent is therefore followed by a long poll, whose
 * answer ends. If it arrives, the client goes on polling until a probe finds that streams pass again.
 *
 * Invariants: only a permanent refusal ends it, or `close`. After anything else it connects again, first after the
 * server's own `retry`, then after twice that, and so on; after a gap without a cursor. Every wait has a limit: by the
 * heartbeat that the server has announced, and until it has announced one, by FIRST_FRAME_MS. It knows no page: what
 * wakes it is elsewhere.
 */
import { Deadline, MAX_MS, OVER } from "./deadline.js";
import { Gap, Lost, StatestreamError } from "./errors.js";
import { DEGRADED, FAILED } from "./health.js";
import { Probe } from "./probe.js";
import { errorOf } from "./refusals.js";
import { Decoder } from "./sse.js";

const FIRST_RETRY_MS = 500; // until the server has specified a delay
const MIN_RETRY_MS = 10; // zero doubled is zero, so the client would never pause while a server is down
const MAX_RETRY_MS = 30_000;
const MAX_DOUBLINGS = 10;
const FIRST_FRAME_MS = 15_000; // how long a connection may be silent before its first frame, which has the heartbeat
const MIN_FIRST_FRAME_MS = 5_000; // the same if the previous connection had a short heartbeat
const FIRST_FRAME_TOTAL_MS = 300_000; // a server that only sends comments will never send a state
const MIN_POLL_MS = 1_000; // between polls that bring nothing new; a server answers such a poll after a heartbeat
const FIRST_EVENTS = ["state.initial", "state.resumed"];

/** Follows `url` into `replica`.
 *
 * `onEvent(event, updates)` is called after each event, `onPhase()` after `phase` and `error` have changed:
 * `connecting`; `live`; `waiting` before the next attempt; and `ended`, with the `error` if it was refused. `error` is
 * why the last connection was lost. `monitor.received(heartbeat)` is called with each piece that arrives.
 */
export class Connection {
  phase = "connecting";
  error = null;
  #url;
  #token;
  #replica;
  #monitor;
  #onEvent;
  #onPhase;
  #retry = FIRST_RETRY_MS;
  #failures = 0;
  #began = false; // whether the current connection has had its first frame
  #heard = 0; // when something was received, by the wall clock, which goes on while a machine sleeps
  #deadline = null; // of the current connection
  #pause = null; // the current wait before the next one
  #hurry = false; // whether the next wait is none
  #away = false;
  #closed = false;
  #polls = false; // whether it polls, because streams do not pass
  #reopens = false; // whether the next connection continues this one, as far as others see
  #prepare;
  #accept;
  #probeMs;

  /** Before each connection, `prepare()` may change the URL, and add to the replica; it may throw a Lost, or a Gap.
   * `accept(response)` may refuse a stream by its headers: it throws a StatestreamError.
   * `probeMs` is how long it waits, while it polls, before it tries a stream for the second time.
   */
  constructor({ url, token, replica, monitor, onEvent, onPhase, prepare, accept, probeMs }) {
    [this.#prepare, this.#accept, this.#probeMs] = [prepare, accept, probeMs];
    [this.#url, this.#token, this.#replica, this.#monitor] = [url, token, replica, monitor];
    [this.#onEvent, this.#onPhase] = [onEvent, onPhase];
  }

  /** Runs until it is closed, or until the server refuses for good. */
  async run() {
    for (;;) {
      const error = await this.#attempt();
      if (this.#closed) return this.#end(null);
      if (error === null) continue;
      if (error instanceof Gap) this.#replica.forgetPosition();
      else if (!(error instanceof Lost)) return this.#end(error);
      this.#enter("waiting", error);
      const { end } = this.#replica, exact = end !== null && end.retry !== null;
      await this.#rest(exact ? end.retry : this.#backoff(), exact);
      while (this.#away && !this.#closed) await this.#rest(MAX_MS, false);
      if (this.#closed) return this.#end(null);
    }
  }

  /** Connects at once if it is waiting, unless the server has said for how long; also if it seems to be dead.
   *
   * `suspicious`: something has happened that may have cut the connection without a sign.
   */
  wake(suspicious = false) {
    const slept = this.#away;
    [this.#away, this.#failures] = [false, 0];
    if (this.#pause !== null) {
      if (!this.#pause.exact) this.#pause.end();
      return;
    }
    const silent = this.#began && Date.now() - this.#heard > DEGRADED * this.#replica.heartbeat;
    if (!suspicious && !silent && !slept) return;
    this.#hurry = true;
    this.#interrupt("the connection may have been cut");
  }

  /** Drops the connection until `wake`. */
  sleep() {
    this.#away = true;
    this.#interrupt("the page is not in use");
  }

  get isOpen() {
    return this.phase === "live" && this.#began;
  }

  /** Replaces an open connection with a newly prepared one. */
  reopen() {
    if (!this.isOpen) return; // the next one is not prepared yet
    this.#reopens = true;
    this.#pause?.end();
    this.#deadline.abort();
  }

  close() {
    this.#closed = true;
    this.#deadline?.abort();
    this.#pause?.end();
  }

  #interrupt(why) {
    this.#deadline?.abort(new Lost(why));
  }

  #end(error) {
    this.#closed = true;
    this.#enter("ended", error);
  }

  #enter(phase, error) {
    [this.phase, this.error] = [phase, error];
    this.#onPhase();
  }

  /** One connection, or polls. Returns why they are over; null if a stream passes again. */
  async #attempt() {
    const polled = this.#polls;
    if (this.phase !== "connecting" && !this.#reopens) this.#enter("connecting", this.error);
    [this.#reopens, this.#began, this.#deadline] = [false, false, new Deadline()];
    try {
      await this.#prepare?.();
      if (this.#closed || this.#away) throw new Lost("the page is not in use");
      await (polled ? this.#poll() : this.#follow());
    } catch (error) {
      if (error === OVER) return null; // it is opened again
      if (this.#deadline.expired) this.#polls = !polled; // what was silent may pass in the other way
      if (error instanceof StatestreamError) return error;
      console.error(error); // a fault of this client: trying again would repeat it
      return new StatestreamError("following the stream failed", { code: "failed", cause: error });
    }
    const { end } = this.#replica;
    if (end === null && (polled || this.#reopens)) return null;
    if (end === null) return new Lost("the server has closed the connection");
    const more = { code: end.reason, status: 200 };
    if (end.final) return new StatestreamError("the server has ended the stream for good", more);
    return new Lost("the server has ended the stream for now", more);
  }

  /** The ms to wait: the server's `retry`, doubled with each failure in a row, with jitter; none after `wake`. */
  #backoff() {
    const hurry = this.#hurry;
    this.#hurry = false;
    if (hurry) return 0;
    const ms = Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, this.#retry) * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, MAX_DOUBLINGS);
    return ms * (1 + Math.random() / 2);
  }

  async #rest(ms, exact) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.min(ms, MAX_MS));
      const end = () => (clearTimeout(timer), resolve());
      this.#pause = { exact, end };
    });
    this.#pause = null;
  }

  /** One connection, until it ends, or until the server announces its end. */
  async #follow() {
    const limit = this.#firstFrameLimit();
    [this.#replica.end, this.#began] = [null, false];
    await this.#read(await this.#stream((this.#deadline = new Deadline()), limit), limit);
  }

  get #isUnwanted() {
    return this.#away || this.#closed || this.#reopens;
  }

  /** Polls until a stream passes, it is to sleep, or the server announces its end. */
  async #poll() {
    await this.#pollOnce();
    const probe = new Probe((deadline) => this.#passes(deadline), this.#probeMs);
    void probe.try();
    try {
      while (this.#replica.end === null && !probe.passed && !this.#isUnwanted) await this.#pollOnce();
      this.#polls = !probe.passed;
    } finally {
      probe.stop();
    }
  }

  async #pollOnce() {
    const { position, heartbeat } = this.#replica, began = performance.now(), url = new URL(this.#url);
    url.searchParams.set("live", "long-poll");
    if (position) url.searchParams.set("after", position);
    const limit = heartbeat === null ? FIRST_FRAME_MS : MIN_FIRST_FRAME_MS + heartbeat;
    [this.#replica.end, this.#began] = [null, false];
    try {
      await this.#read(await this.#request(url, {}, (this.#deadline = new Deadline()), limit), limit);
    } catch (error) {
      if (error.status !== 400) throw error;
      this.#polls = false;
      throw new Lost("nothing arrives, and the server does not know long polling", { cause: error });
    }
    const left = began + MIN_POLL_MS - performance.now();
    if (this.#replica.position === position && this.#replica.end === null && left > 0) await this.#rest(left, false);
  }

  /** Whether the first frame of a stream arrives in time. Nothing of it is applied. */
  async #passes(deadline) {
    try {
      const decoder = new Decoder({ lastId: "" });
      for await (const chunk of chunksOf(await this.#stream(deadline, this.#firstFrameLimit()), deadline))
        if (decoder.feed(chunk).some(({ type }) => FIRST_EVENTS.includes(type))) return true;
    } catch (error) {
      if (!(error instanceof StatestreamError)) console.error(error);
    } finally {
      deadline.abort();
    }
    return false;
  }

  #stream(deadline, limit) {
    const { position } = this.#replica;
    return this.#request(this.#url, position ? { "Last-Event-ID": position } : {}, deadline, limit);
  }

  async #request(url, headers, deadline, limit) {
    deadline.extend(limit);
    const init = { headers: { Accept: "text/event-stream", ...headers } };
    try {
      const response = await this.#token.request(url, init, deadline, { fresh: true });
      await verify(response);
      this.#accept?.(response);
      return response;
    } catch (error) {
      deadline.abort();
      throw error;
    }
  }

  /** Applies what arrives. */
  async #read(response, first) {
    const deadline = this.#deadline, last = performance.now() + FIRST_FRAME_TOTAL_MS;
    try {
      const decoder = new Decoder({ lastId: this.#replica.position ?? "" });
      for await (const chunk of chunksOf(response, deadline)) {
        const events = decoder.feed(chunk);
        if (decoder.retry !== null) this.#retry = decoder.retry;
        if (!events.every((event) => this.#apply(event))) return;
        deadline.extend(this.#silenceLimit(first, last));
      }
    } finally {
      deadline.abort(); // closes it, however this has ended
    }
  }

  /** Returns whether the stream continues. */
  #apply(event) {
    if (this.#deadline.signal.aborted) return false;
    const updates = this.#replica.apply(event);
    this.#began ||= FIRST_EVENTS.includes(event.type);
    if (this.#replica.position !== null) this.#failures = 0; // not earlier: a server that breaks must not be hammered
    if (this.#began && this.phase !== "live") this.#enter("live", null);
    this.#onEvent(event, updates);
    return this.#replica.end === null;
  }

  /** The ms that a new connection may be silent, by the heartbeat of the previous connection if known. */
  #firstFrameLimit() {
    const { heartbeat } = this.#replica;
    if (heartbeat === null) return FIRST_FRAME_MS;
    return Math.min(FIRST_FRAME_MS, Math.max(MIN_FIRST_FRAME_MS, FAILED * heartbeat));
  }

  /** The ms after which the connection counts as dead if nothing more arrives. */
  #silenceLimit(first, last) {
    const { heartbeat } = this.#replica, left = last - performance.now();
    this.#heard = Date.now();
    if (heartbeat === null) return Math.min(left, first);
    this.#monitor.received(heartbeat);
    return this.#began ? FAILED * heartbeat : Math.min(left, Math.max(first, FAILED * heartbeat));
  }
}

async function verify(response) {
  const type = response.headers.get("Content-Type") ?? "no type";
  if (response.status === 200 && type.startsWith("text/event-stream")) return;
  if (response.status !== 200) throw await errorOf(response);
  const detail = `expected a stream of events, got ${type.slice(0, 100)}; check the URL`;
  throw new StatestreamError(detail, { code: "answer", status: 200 });
}

/** The pieces of a body, as they arrive. Throws a Lost if it is cut, or the reason of the deadline. */
async function* chunksOf(response, { signal }) {
  const reader = response.body.getReader(), cancel = () => void reader.cancel().catch(() => {});
  signal.addEventListener("abort", cancel);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (signal.aborted) throw signal.reason;
      if (done) return;
      yield value;
    }
  } catch (cause) {
    throw signal.aborted ? signal.reason : new Lost("the response was cut off", { cause });
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}
