/* statestream.js: a live copy of a server's state in a browser, over plain EventSource.
 *
 *   const stream = follow("/stream/state?slices=board", (state, updates) => render(state.board));
 *
 * Invariants: the rules of the protocol for every client. A change is applied if its `from` is the version here, ignored
 * if it is old, and otherwise a gap, after which the client starts again without a cursor. Values never change: a patch
 * makes new objects where it changes something, and keeps the identity of all others.
 */

const EVENTS = ["state.initial", "state.resumed", "state.update", "state.catchup", "heartbeat", "stream.end"];
const POINTER = /^(?!.*\/__proto__(\/|$))(\/([^~/]|~[01])*)*$/s; // RFC 6901; the protocol forbids the key `__proto__`
const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 30000;
const SILENCE = 2.5; // heartbeats without an event, after which the connection counts as dead

class Gap extends Error {}

/** Follows `url`. Calls `onChange(state, updates)` after every frame that changes the state, and `onStatus(text)` when the connection changes. */
export function follow(url, onChange, onStatus = () => {}) {
  if (new URL(url, location.href).searchParams.has("after")) throw new Error("follow() manages the cursor itself; remove `after` from the URL");
  const stream = { state: {}, versions: {}, position: null, close };
  let source = null, timer = null, watchdog = null, attempt = 0, heartbeat = null, closed = false;

  function open() {
    const target = new URL(url, location.href);
    if (stream.position !== null) target.searchParams.set("after", stream.position);
    source = new EventSource(target);
    for (const name of EVENTS) source.addEventListener(name, receive);
    source.onerror = () => {
      onStatus("reconnecting");
      if (source.readyState === EventSource.CLOSED) reconnect(); // after a 4xx or 5xx the browser does not reconnect
    };
    watch();
  }

  function receive(event) {
    if (closed) return;
    let updates;
    try {
      const data = JSON.parse(event.data);
      if (data.type === "stream.end") return end(data);
      updates = apply(stream, data);
      if (data.heartbeat) heartbeat = data.heartbeat;
    } catch (error) {
      if (!(error instanceof Gap)) console.error(error);
      stream.position = null;
      return reconnect();
    }
    watch();
    stream.position = event.lastEventId;
    attempt = 0;
    onStatus("live");
    if (updates.length) onChange(stream.state, updates); // outside of the try: an error of the page is not a gap
  }

  function end(data) {
    onStatus(`ended: ${data.reason}`);
    if (data.retry === undefined) close();
    else reconnect(data.retry);
  }

  function reconnect(delay) {
    source.close();
    clearTimeout(timer);
    clearTimeout(watchdog); // otherwise it could fire during a long wait
    const wait = delay ?? Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt) * (1 + Math.random() / 2);
    attempt += 1;
    timer = setTimeout(open, wait);
  }

  function watch() {
    clearTimeout(watchdog);
    if (heartbeat !== null) watchdog = setTimeout(() => { onStatus("reconnecting"); reconnect(0); }, heartbeat * SILENCE);
  }

  function close() {
    closed = true;
    clearTimeout(timer);
    clearTimeout(watchdog);
    source.close();
  }

  open();
  return stream;
}

/** Applies a frame to {state, versions} and returns its updates. Throws Gap if it does not continue them. */
export function apply(replica, frame) {
  switch (frame.type) {
    case "state.initial":
      replica.state = { ...frame.slices };
      replica.versions = { ...frame.versions };
      return [{ reason: frame.reason }];
    case "state.resumed":
      if (!equal(frame.versions, replica.versions)) throw new Gap("the server resumed at other versions");
      return [];
    case "state.update":
      return applyAll(replica, [frame]);
    case "state.catchup":
      return applyAll(replica, frame.updates);
    default:
      return [];
  }
}

function applyAll(replica, updates) {
  const state = { ...replica.state }, versions = { ...replica.versions };
  const newer = updates.filter((update) => update.version > (versions[update.slice] ?? 0));
  for (const update of newer) {
    if (update.removed) {
      delete state[update.slice];
      delete versions[update.slice];
      continue;
    }
    if ("value" in update) state[update.slice] = update.value;
    else if (update.from !== versions[update.slice]) throw new Gap(`${update.slice} has another version`);
    else state[update.slice] = patched(state[update.slice], update.patches);
    versions[update.slice] = update.version;
  }
  replica.state = state;
  replica.versions = versions;
  return newer;
}

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
