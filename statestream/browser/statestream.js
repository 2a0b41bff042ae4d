/* statestream.js: a live copy of a server's state in a browser, over plain EventSource.
 *
 *   const stream = follow("/stream/state?slices=board", (state, updates) => render(state.board));
 *
 * An EventSource cannot send a token. With a token, the same stream comes over fetch.
 *
 * Invariants: the rules of the protocol for every client. A change is applied if its `from` is the version here, ignored
 * if it is old, and otherwise a gap, after which the client starts again without a cursor. Values never change: a patch
 * makes new objects where it changes something, and keeps the identity of all others. Every wait has a limit: by the
 * heartbeat that the server has announced, and until it has announced one, by FIRST_FRAME_MS. A token is sent in a header,
 * to the URL that the page has given, and nowhere else.
 */

const EVENTS = ["state.initial", "state.resumed", "state.update", "state.catchup", "heartbeat", "stream.end"];
const POINTER = /^(?!.*\/__proto__(\/|$))(\/([^~/]|~[01])*)*$/s; // RFC 6901; the protocol forbids the key `__proto__`
const FIRST_RETRY_MS = 1000; // until the server has specified a delay
const MIN_RETRY_MS = 10;
const MAX_RETRY_MS = 30000;
const MAX_DOUBLINGS = 10;
const SILENCE = 2.5; // heartbeats without an event, after which the connection counts as dead
const FIRST_FRAME_MS = 15000; // how long a new connection may be silent before its first frame, which announces the heartbeat
const MIN_FIRST_FRAME_MS = 5000; // the same if the previous connection had a short heartbeat
const MAX_FIRST_FRAME_MS = 120000;
const BROWSER_RETRY_MS = 5000; // how long a browser waits before it reconnects by itself, if the server has not specified a delay
const INQUIRY_MS = 10000;
const STREAM_HEADERS = { Accept: "text/event-stream" };
const TEMPORARY = [408, 425, 429]; // statuses below 500 after which a retry may succeed
const MAX_MS = 2 ** 31 - 1; // setTimeout fires at once after a longer delay

class Gap extends Error {}

/** Follows `url`. Calls `onChange(state, updates)` after every frame that changes the state.
 *
 * Calls `onStatus(text, detail)` when the connection changes: `live`, `reconnecting`, or `ended: …` with the reason. If
 * the server has refused, `detail` is a sentence with the reason. `withCredentials`: whether a server of another origin
 * receives the cookies that the browser has for it, as its own pages do.
 *
 * `token` is sent as `Authorization: Bearer …`. If it is a function, async or not, it is called for each connection, and
 * again if the server refuses the token with a 401.
 */
export function follow(url, onChange, onStatus = () => {}, { withCredentials = false, token } = {}) {
  if (new URL(url, location.href).searchParams.has("after")) throw new Error("follow() manages the cursor itself; remove `after` from the URL");
  const stream = { state: {}, versions: {}, position: null, close: () => connection.close() };
  const connection = new Connection(target, EVENTS, receive, onStatus, { withCredentials, token });

  function target() {
    const target = new URL(url, location.href);
    if (stream.position) target.searchParams.set("after", connection.lastEventId || stream.position);
    return target;
  }

  function receive(event) {
    let updates;
    try {
      const data = JSON.parse(event.data);
      if (!isObject(data)) throw new Gap("the data of a frame is not an object");
      if (event.type === "stream.end") return end(data);
      const { heartbeat, retry } = timing(event.type, data);
      updates = apply(stream, data, event.type);
      connection.received(heartbeat, retry);
    } catch (error) {
      if (!(error instanceof Gap)) console.error(error);
      stream.position = null;
      onStatus("reconnecting");
      return connection.reconnect();
    }
    stream.position = event.lastEventId;
    onStatus("live");
    if (updates.length) onChange(stream.state, updates); // outside of the try: an error of the page is not a gap
  }

  function end(data) {
    if ("retry" in data) connection.reconnect(isTime(data.retry) ? data.retry : undefined);
    else connection.close();
    onStatus(`ended: ${data.reason ?? "it gives no reason"}`);
  }

  connection.open();
  return stream;
}

/** Gets a ticket for an EventSource or a WebSocket: a cookie of the server, which no script can read.
 *
 * `url` is that of the server's `/tickets`, `token` the same as for `follow`. The first connection that you open within
 * 30 s uses the ticket; when it is open, its cookie suffices for any others, and for reconnects. `withCredentials` lets a
 * server of another origin set the cookie. Throws an Error with the server's reason.
 */
export async function ticket(url, token, { withCredentials = false } = {}) {
  const ask = async () => {
    const headers = { Authorization: `Bearer ${typeof token === "function" ? await token() : token}` };
    const [credentials, signal] = [withCredentials ? "include" : "same-origin", AbortSignal.timeout(INQUIRY_MS)];
    return fetch(url, { method: "POST", headers, credentials, signal, cache: "no-store", redirect: "error" });
  };
  let response = await ask();
  if (response.status === 401 && typeof token === "function") response = await ask();
  if (!response.ok) throw new Error((await verdictOn(response)).detail);
}

/** Keeps an EventSource open, and opens another one when it is lost, silent or refused for now.
 *
 * `target()` is the URL to ask, `receive` is called with every event that has one of the `names`. With a `token`, it is a
 * FetchSource instead.
 */
export class Connection {
  #target; #names; #receive; #onStatus; #withCredentials; #token;
  lastEventId = ""; // also that of an event with another name; an EventSource remembers it by itself
  #source = null; #timer = null; #watchdog = null; #attempt = 0; #heartbeat = null; #retry = null; #closed = false;

  constructor(target, names, receive, onStatus, { withCredentials = false, token } = {}) {
    [this.#target, this.#names, this.#receive, this.#onStatus] = [target, names, receive, onStatus];
    [this.#withCredentials, this.#token] = [withCredentials, token];
  }

  open() {
    const source = (this.#source = this.#newSource(this.#target()));
    for (const name of this.#names) source.addEventListener(name, (event) => source === this.#source && !this.#closed && this.#receive(event));
    source.onopen = () => this.#watch(Math.min(MAX_FIRST_FRAME_MS, this.#firstFrameLimit() * 2 ** this.#attempt)); // a frame that is still arriving cannot be seen, so it gets longer each time
    source.onerror = (event) => event instanceof MessageEvent || this.#lost(source); // a message if the server sends an event of that name
    this.#watch(this.#firstFrameLimit());
  }

  /** A frame has been applied. The first one of a connection announces the heartbeat and the delay before a retry. */
  received(heartbeat = this.#heartbeat, retry = this.#retry) {
    [this.#heartbeat, this.#retry, this.#attempt] = [heartbeat, retry, 0];
    this.#watch(heartbeat === null ? FIRST_FRAME_MS : heartbeat * SILENCE);
  }

  /** Opens another EventSource after `delay`; without it, after the server's, doubled with each failure in a row. */
  reconnect(delay) {
    this.#stop();
    let wait = delay;
    if (wait === undefined) {
      wait = Math.min(MAX_RETRY_MS, Math.max(MIN_RETRY_MS, this.#retry ?? FIRST_RETRY_MS) * 2 ** this.#attempt) * (1 + Math.random() / 2);
      this.#attempt = Math.min(MAX_DOUBLINGS, this.#attempt + 1);
    }
    this.#timer = setTimeout(() => this.open(), Math.min(wait, MAX_MS));
  }

  close() {
    this.#closed = true;
    this.#stop();
  }

  #stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog); // otherwise it could fire during a long wait
    this.lastEventId = this.#source?.lastEventId || this.lastEventId;
    this.#source?.close();
    this.#source = null;
  }

  #lost(source) {
    if (source !== this.#source) return;
    this.#onStatus("reconnecting");
    if (source.readyState === EventSource.CLOSED) this.#inquire(source);
    else this.#watch((this.#retry ?? BROWSER_RETRY_MS) + this.#firstFrameLimit()); // the browser reconnects by itself
  }

  /** Requests the URL again to find out the status of the refusal, which an EventSource hides. */
  async #inquire(source) {
    clearTimeout(this.#watchdog);
    const { final, reason, detail } = source.answer ?? (await answerOf(this.#target(), this.#credentials));
    if (source !== this.#source) return; // closed meanwhile
    if (final) this.close();
    else this.reconnect();
    this.#onStatus(final ? `ended: ${reason}` : "reconnecting", detail);
  }

  get #credentials() {
    return this.#withCredentials ? "include" : "same-origin";
  }

  #newSource(target) {
    if (this.#token === undefined) return new EventSource(target, { withCredentials: this.#withCredentials });
    return new FetchSource(target, this.#token, this.#credentials);
  }

  #firstFrameLimit() {
    if (this.#heartbeat === null) return FIRST_FRAME_MS;
    return Math.min(FIRST_FRAME_MS, Math.max(MIN_FIRST_FRAME_MS, this.#heartbeat * SILENCE));
  }

  #watch(limit) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      this.#onStatus("reconnecting");
      this.reconnect();
    }, Math.min(limit, MAX_MS));
  }
}

/** What an EventSource can do, over fetch, with a token; except that it does not reconnect by itself.
 *
 * Once it is closed, `answer` is what Connection needs to know: {final, reason, detail}.
 */
export class FetchSource extends EventTarget {
  readyState = 0; onopen = null; onerror = null; answer = { final: false }; lastEventId = "";
  #ended = new AbortController();

  constructor(target, token, credentials = "same-origin") {
    super();
    this.#follow(target, token, credentials);
  }

  close() {
    this.readyState = 2;
    this.#ended.abort();
  }

  async #follow(target, token, credentials) {
    try {
      let response = await this.#request(target, token, credentials);
      if (response.status === 401 && typeof token === "function") {
        await response.body?.cancel();
        response = await this.#request(target, token, credentials);
      }
      this.answer = await verdictOn(response);
      if (isStream(response)) await this.#read(response);
    } catch (error) {
      if (error instanceof TokenFailed) console.error(error.cause);
      this.answer = error instanceof TokenFailed ? { final: false, detail: error.message } : unreachable(target);
    }
    if (this.readyState === 2) return;
    this.readyState = 2;
    this.onerror?.(new Event("error"));
  }

  async #request(target, token, credentials) {
    let value = token;
    try {
      if (typeof token === "function") value = await token();
    } catch (cause) {
      throw new TokenFailed("the function that returns the token failed", { cause });
    }
    const headers = { ...STREAM_HEADERS, Authorization: `Bearer ${value}` };
    return fetch(target, { headers, cache: "no-store", credentials, redirect: "manual", signal: this.#ended.signal }); // a redirect could lead anywhere
  }

  async #read(response) {
    this.readyState = 1;
    this.onopen?.(new Event("open"));
    const decoder = new EventDecoder(), reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read())
      for (const [type, init] of decoder.feed(next.value)) this.#dispatch(type, init);
  }

  #dispatch(type, init) {
    if (this.readyState === 2) return;
    this.lastEventId = init.lastEventId;
    this.dispatchEvent(new MessageEvent(type, init));
  }
}

class TokenFailed extends Error {}

/** The events in the text of a stream of server-sent events: WHATWG HTML, section 9.2.6. */
class EventDecoder {
  #line = []; #afterCR = false; #data = []; #type = ""; #lastId = "";

  /** The events that `text` completes, as [type, {data, lastEventId}]. */
  feed(text) {
    const events = [];
    if (this.#afterCR && text.startsWith("\n")) text = text.slice(1); // the CR has ended the line already
    this.#afterCR = text.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    this.#line.push(lines[0]);
    if (lines.length === 1) return events;
    lines[0] = this.#line.join("");
    this.#line = [lines.pop()];
    for (const line of lines) {
      if (line !== "") this.#field(line);
      else this.#end(events);
    }
    return events;
  }

  #field(line) {
    const [, name, value] = /^([^:]*):? ?([^]*)$/.exec(line);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#lastId = value;
  }

  #end(events) {
    if (this.#data.length) events.push([this.#type || "message", { data: this.#data.join("\n"), lastEventId: this.#lastId }]);
    [this.#data, this.#type] = [[], ""];
  }
}

/** The server's answer to `target`, which an EventSource hides: {final, reason, detail}. */
async function answerOf(target, credentials) {
  const inquiry = new AbortController(), limit = setTimeout(() => inquiry.abort(), INQUIRY_MS);
  try {
    return await verdictOn(await fetch(target, { headers: STREAM_HEADERS, cache: "no-store", credentials, signal: inquiry.signal }));
  } catch {
    return unreachable(target);
  } finally {
    clearTimeout(limit);
    inquiry.abort(); // ends a stream
  }
}

const typeOf = (response) => response.headers.get("Content-Type") ?? "no type";
const isStream = (response) => response.status === 200 && typeOf(response).startsWith("text/event-stream");

/** What a response means for the next attempt: {final, reason, detail}. */
async function verdictOn(response) {
  const { status, statusText } = response;
  if (isStream(response)) return { final: false }; // it is there, or there again
  if (status === 200) return { final: true, reason: "not a stream", detail: `expected text/event-stream, got ${typeOf(response)}` };
  if (response.type === "opaqueredirect") return { final: true, reason: "redirect", detail: "the server redirects, and a token is for the first URL only; use the new one" };
  const problem = await response.json().catch(() => null);
  const final = status < 500 && !TEMPORARY.includes(status);
  return { final, reason: String(problem?.code ?? `status ${status}`), detail: String(problem?.detail ?? `status ${status} ${statusText}`) };
}

function unreachable(target) {
  const foreign = target.origin === location.origin ? "" : ", or is of another origin and does not let this page read from it (CORS)";
  return { final: false, detail: `the server does not answer${foreign}` };
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isTime = (value) => Number.isInteger(value) && value >= 0;

/** The heartbeat and the delay that the first frame of a connection specifies; nothing for other frames. */
function timing(name, { heartbeat, retry }) {
  if (name !== "state.initial" && name !== "state.resumed") return {};
  if (!isTime(heartbeat) || heartbeat > 2 ** 31) throw new Gap("a first frame does not announce the heartbeat");
  return { heartbeat: Math.max(10, heartbeat), retry: isTime(retry) ? retry : undefined };
}

/** Applies a frame to {state, versions} and returns its updates. Throws Gap if it does not continue them. */
export function apply(replica, frame, name = frame.type) {
  switch (name) {
    case "state.initial":
      if (!isObject(frame.slices)) throw new Gap("a state has no slices");
      [replica.versions, replica.state, replica.view] = [versionsOf(frame), { ...frame.slices }, frame.view];
      return [{ reason: frame.reason }];
    case "state.resumed":
      if (!equal(versionsOf(frame), replica.versions)) throw new Gap("the server resumed at other versions");
      if (frame.view !== replica.view) throw new Gap("the server resumed with other views");
      return [];
    case "state.update":
      return applyAll(replica, [frame]);
    case "state.catchup":
      return applyAll(replica, frame.updates);
    default:
      return [];
  }
}

function versionsOf({ versions }) {
  if (!isObject(versions) || !Object.values(versions).every(Number.isInteger)) throw new Gap("a frame has no versions");
  return { ...versions };
}

function applyAll(replica, updates) {
  const state = { ...replica.state }, versions = { ...replica.versions };
  if (!Array.isArray(updates) || !updates.every(isUpdate)) throw new Gap("an update lacks its slice or its version");
  const newer = updates.filter((update) => update.version > (versions[update.slice] ?? 0));
  for (const update of newer) {
    if (update.removed === true) {
      delete state[update.slice];
      delete versions[update.slice];
      continue;
    }
    if ("value" in update) state[update.slice] = update.value;
    else if (!Array.isArray(update.patches)) throw new Gap("an update has neither patches, nor a value, nor a removal");
    else if (update.from !== versions[update.slice]) throw new Gap(`${update.slice} has another version`);
    else state[update.slice] = patched(state[update.slice], update.patches);
    versions[update.slice] = update.version;
  }
  replica.state = state;
  replica.versions = versions;
  return newer;
}

const isUpdate = (update) => isObject(update) && typeof update.slice === "string" && Number.isInteger(update.version);

/** Returns the document after RFC 6902 operations; the two share what did not change. Throws Gap if they do not fit. */
export function patched(document, operations) {
  const whole = { "": document }; // every pointer begins with an empty segment, so the root is a member like any other
  let fresh = new Set([whole]); // containers that were made here, and may be changed
  for (const { op, path, from, value } of operations) {
    const segments = segmentsOf(path);
    if (["add", "replace", "test"].includes(op) && value === undefined) throw new Gap("an operation has no value");
    switch (op) {
      case "add":
      case "replace":
      case "remove":
        change(whole, segments, fresh, op, value);
        break;
      case "test":
        if (!equal(valueAt(whole, segments), value)) throw new Gap("a test failed");
        break;
      case "move": {
        const moved = valueAt(whole, segmentsOf(from));
        if (path === from) break;
        if (path.startsWith(`${from}/`)) throw new Gap("a value cannot be moved into itself");
        change(whole, segmentsOf(from), fresh, "remove");
        change(whole, segments, fresh, "add", moved);
        break;
      }
      case "copy": {
        const copied = valueAt(whole, segmentsOf(from));
        fresh = new Set([whole]); // a value in two places must not be changed in place
        change(whole, segments, fresh, "add", copied);
        break;
      }
      default:
        throw new Gap(`not an operation of RFC 6902: ${op}`);
    }
  }
  return whole[""];
}

function segmentsOf(pointer) {
  if (typeof pointer !== "string" || !POINTER.test(pointer)) throw new Gap("a path is not a JSON Pointer");
  return pointer.split("/").map((segment) => segment.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** The value at a path. */
function valueAt(whole, segments) {
  return segments.reduce(memberOf, whole);
}

function memberOf(container, key) {
  if (container === null || typeof container !== "object" || !Object.hasOwn(container, key)) throw new Gap("a path leads nowhere");
  if (Array.isArray(container) && key === "length") throw new Gap("a path leads nowhere");
  return container[key];
}

/** Changes one member, after copying the containers on its path that were not made here. */
function change(whole, segments, fresh, op, value) {
  let target = whole;
  for (const segment of segments.slice(0, -1)) target = target[segment] = writable(memberOf(target, segment), fresh);
  const key = segments.at(-1);
  if (Array.isArray(target)) changeElement(target, op, key, value);
  else if (op !== "add" && !Object.hasOwn(target, key)) throw new Gap("no such member");
  else if (op !== "remove") target[key] = value;
  else if (target !== whole) delete target[key];
  else throw new Gap("the root cannot be removed");
}

function changeElement(target, op, key, value) {
  const position = op === "add" && key === "-" ? `${target.length}` : key; // `-` is the place after the last element
  const index = Number(position);
  if (!/^(0|[1-9][0-9]*)$/.test(position) || index > target.length - (op === "add" ? 0 : 1)) throw new Gap("no such element");
  if (op === "add") target.splice(index, 0, value);
  else if (op === "remove") target.splice(index, 1);
  else target[index] = value;
}

function writable(container, fresh) {
  if (container === null || typeof container !== "object") throw new Gap("a path leads nowhere");
  if (fresh.has(container)) return container;
  const copy = Array.isArray(container) ? container.slice() : { ...container };
  fresh.add(copy);
  return copy;
}

/** Compares as JSON: the order of members does not matter. */
function equal(a, b) {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return false;
  const names = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || names.length !== Object.keys(b).length) return false;
  return names.every((name) => Object.hasOwn(b, name) && equal(a[name], b[name]));
}
