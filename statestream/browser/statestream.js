/* statestream.js: a live copy of a server's state in a browser, over plain EventSource.
 *
 *   const stream = follow("/stream/state?slices=board", (state, updates) => render(state.board));
 *
 * Invariants: the same rules as every client of the protocol. A change is applied where its `from` is what is
 * held, ignored where it is old, and anything else is a gap: then it starts again without a cursor.
 * Values are never mutated: what a patch touches is a new object, what it does not keeps its identity.
 */

const EVENTS = ["state.initial", "state.resumed", "state.update", "state.catchup", "heartbeat", "stream.end"];
const POINTER = /^(?!.*\/__proto__(\/|$))(\/([^~/]|~[01])*)*$/s; // RFC 6901; `__proto__` is no key of the protocol
const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 30000;
const SILENCE = 2.5; // heartbeats without an event after which the connection is taken for dead

class Gap extends Error {}

/** Follows `url`. `onChange(state, updates)` after every frame that changed something; `onStatus(text)` when the connection changes. */
export function follow(url, onChange, onStatus = () => {}) {
  if (new URL(url, location.href).searchParams.has("after")) throw new Error("follow() keeps the cursor itself: give it no `after`");
  const stream = { state: {}, versions: {}, position: null, close };
  let source = null, timer = null, watchdog = null, attempt = 0, heartbeat = null, closed = false;

  function open() {
    const target = new URL(url, location.href);
    if (stream.position !== null) target.searchParams.set("after", stream.position);
    source = new EventSource(target);
    for (const name of EVENTS) source.addEventListener(name, receive);
    source.onerror = () => {
      onStatus("reconnecting");
      if (source.readyState === EventSource.CLOSED) again(); // the browser has given up: 4xx, 5xx
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
      return again();
    }
    watch();
    stream.position = event.lastEventId;
    attempt = 0;
    onStatus("live");
    if (updates.length) onChange(stream.state, updates); // out of the try: what a page does wrong is no gap
  }

  function end(data) {
    onStatus(`ended: ${data.reason}`);
    if (data.retry === undefined) close();
    else again(data.retry);
  }

  function again(delay) {
    source.close();
    clearTimeout(timer);
    clearTimeout(watchdog); // a wait may be longer than its patience
    const wait = delay ?? Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** attempt) * (1 + Math.random() / 2);
    attempt += 1;
    timer = setTimeout(open, wait);
  }

  function watch() {
    clearTimeout(watchdog);
    if (heartbeat !== null) watchdog = setTimeout(() => { onStatus("reconnecting"); again(0); }, heartbeat * SILENCE);
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

/** Applies a frame to {state, versions} and gives the updates in it. Throws Gap where it does not continue them. */
export function apply(replica, frame) {
  switch (frame.type) {
    case "state.initial":
      replica.state = { ...frame.slices };
      replica.versions = { ...frame.versions };
      return [{ reason: frame.reason }];
    case "state.resumed":
      if (!same(frame.versions, replica.versions)) throw new Gap("resumed elsewhere");
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
    else if (update.from !== versions[update.slice]) throw new Gap(`${update.slice} is at another version`);
    else state[update.slice] = patched(state[update.slice], update.patches);
    versions[update.slice] = update.version;
  }
  replica.state = state;
  replica.versions = versions;
  return newer;
}

/** The document after RFC 6902 operations, sharing with it what they do not touch. Throws Gap where they do not fit. */
export function patched(document, operations) {
  const whole = { "": document }; // the first segment of every pointer: so the root is a member like any other
  let fresh = new Set([whole]); // containers that are ours already
  for (const { op, path, from, value } of operations) {
    const segments = parsed(path);
    if (["add", "replace", "test"].includes(op) && value === undefined) throw new Gap("an operation without its value");
    switch (op) {
      case "add":
      case "replace":
      case "remove":
        change(whole, segments, fresh, op, value);
        break;
      case "test":
        if (!same(found(whole, segments), value)) throw new Gap("a test that fails");
        break;
      case "move": {
        const moved = found(whole, parsed(from));
        if (path === from) break;
        if (path.startsWith(`${from}/`)) throw new Gap("a value moved into itself");
        change(whole, parsed(from), fresh, "remove");
        change(whole, segments, fresh, "add", moved);
        break;
      }
      case "copy": {
        const copied = found(whole, parsed(from));
        fresh = new Set([whole]); // what is in two places is not to be written to
        change(whole, segments, fresh, "add", copied);
        break;
      }
      default:
        throw new Gap(`an operation that is none of RFC 6902: ${op}`);
    }
  }
  return whole[""];
}

function parsed(pointer) {
  if (typeof pointer !== "string" || !POINTER.test(pointer)) throw new Gap("a path that cannot be read");
  return pointer.split("/").map((segment) => segment.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** What is there, only looked at. */
function found(whole, segments) {
  return segments.reduce(member, whole);
}

function member(container, key) {
  if (container === null || typeof container !== "object" || !Object.hasOwn(container, key)) throw new Gap("a patch leads nowhere");
  if (Array.isArray(container) && key === "length") throw new Gap("a patch leads nowhere");
  return container[key];
}

/** Changes one member, in containers that are ours from the root down. */
function change(whole, segments, fresh, op, value) {
  let target = whole;
  for (const segment of segments.slice(0, -1)) target = target[segment] = own(member(target, segment), fresh);
  const key = segments.at(-1);
  if (Array.isArray(target)) changeElement(target, op, key, value);
  else if (op !== "add" && !Object.hasOwn(target, key)) throw new Gap("no such member");
  else if (op !== "remove") target[key] = value;
  else if (target !== whole) delete target[key];
  else throw new Gap("the root cannot be removed");
}

function changeElement(target, op, key, value) {
  const position = op === "add" && key === "-" ? `${target.length}` : key; // `-` is the place behind the last
  const index = Number(position);
  if (!/^(0|[1-9][0-9]*)$/.test(position) || index > target.length - (op === "add" ? 0 : 1)) throw new Gap("no such element");
  if (op === "add") target.splice(index, 0, value);
  else if (op === "remove") target.splice(index, 1);
  else target[index] = value;
}

function own(container, fresh) {
  if (container === null || typeof container !== "object") throw new Gap("a patch leads nowhere");
  if (fresh.has(container)) return container;
  const copy = Array.isArray(container) ? container.slice() : { ...container };
  fresh.add(copy);
  return copy;
}

/** Equal as JSON: the order of members does not count. */
function same(a, b) {
  if (a === b) return true;
  if (a === null || b === null || typeof a !== "object" || typeof b !== "object") return false;
  const names = Object.keys(a);
  if (Array.isArray(a) !== Array.isArray(b) || names.length !== Object.keys(b).length) return false;
  return names.every((name) => Object.hasOwn(b, name) && same(a[name], b[name]));
}
