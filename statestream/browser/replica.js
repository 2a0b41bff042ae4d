/* replica.js: the other side of the stream: frames in, state out, or a gap.
 *
 * A replica may read a stream that selects more than it does, and give others what it holds, as a first frame.
 *
 * Invariants: pure; it interprets the frames of the protocol and has no connection. After each frame, the state is the
 * server's as of `position`; or `apply` has thrown a Gap, nothing has changed, and the stream starts again without a
 * cursor. Values and states never change, and share what did not change with the ones before.
 */
import { Gap, StatestreamError } from "./errors.js";
import { patched } from "./patch.js";
import { equal, isContainer, shared } from "./sharing.js";

const MIN_HEARTBEAT_MS = 10; // a watchdog counts on the heartbeat, so it must not be zero, whatever the server sends
const MAX_MS = 2 ** 31;
const FRAMES = ["state.initial", "state.resumed", "state.update", "state.catchup", "heartbeat", "stream.end"];
const NO_REASON = "it gives no reason";
const NO_SNAPSHOT = "expected the answer of GET /state as the snapshot, with `position`, `slices` and `versions`";

const isObject = (value) => isContainer(value) && !Array.isArray(value);
const isTime = (value) => Number.isInteger(value) && value >= 0;

/** A copy of the selected slices. `begun`: it has had a state. `end`: {reason, retry, final} once the stream has one. */
export class Replica {
  state = {};
  versions = {};
  position = null;
  heartbeat = null;
  begun = false;
  end = null;
  #view;

  /** `selects(name)`: whether it holds that slice, if the stream has it. */
  constructor(selects = () => true) {
    this.selects = selects;
  }

  /** Another replica with what this one holds, for all slices of the stream. */
  copy() {
    const { state, versions, position, heartbeat, begun } = this;
    const copy = Object.assign(new Replica(), { state, versions, position, heartbeat, begun });
    copy.#view = this.#view;
    return copy;
  }

  /** The first frame for a reader of these slices who is at `position`, or has none. */
  firstFrame(selects, position) {
    const { heartbeat } = this, versions = chosen(this.versions, selects), more = { heartbeat, view: this.#view };
    const type = position === this.position ? "state.resumed" : "state.initial";
    if (type === "state.initial") Object.assign(more, { reason: "start", slices: chosen(this.state, selects) });
    return { type, data: JSON.stringify({ ...more, versions, timestamp: Date.now() }), lastId: this.position };
  }

  /** Adds slices as they are at this very position. Throws a Gap. */
  adopt({ slices, versions, position }) {
    if (position !== this.position || !isObject(slices)) throw new Gap("an answer is not of the position asked for");
    for (const name of Object.keys(slices)) assertName(name);
    [this.state, this.versions] = [{ ...this.state, ...slices }, { ...this.versions, ...versionsOf({ versions }) }];
  }

  /** Has an equal state that consists of parts of `other`, where these are equal. */
  share(other) {
    this.state = shared(other, this.state);
  }

  /** Drops all other slices. */
  restrict(selects) {
    [this.state, this.versions] = [chosen(this.state, selects), chosen(this.versions, selects)];
  }

  /** Begins with the answer of `GET /state`, so that the first connection continues after it. */
  begin(snapshot) {
    const { position, slices, versions } = snapshot ?? {};
    if (typeof position !== "string" || !isObject(slices) || !isObject(versions))
      throw new StatestreamError(NO_SNAPSHOT, { code: "malformed" });
    [this.versions, this.state, this.position, this.begun] = [versionsOf(snapshot), slices, position, true];
  }

  /** Makes the next connection start without a cursor. The state stays until a `state.initial` replaces it. */
  forgetPosition() {
    this.position = null;
  }

  /** The updates of an event {type, data, lastId}. Throws a Gap.
   *
   * An event of another name belongs to a later version of the protocol, and is ignored, except for its id.
   */
  apply(event) {
    const { type, lastId } = event;
    if (!FRAMES.includes(type)) {
      if (this.position !== null) this.position = lastId || this.position; // before the first state, nothing to resume
      return [];
    }
    event.parsed ??= parsed(event.data); // for other replicas, too: values never change
    const updates = this.#frame(type, event.parsed, lastId);
    if (type !== "stream.end") this.position = lastId || null;
    return updates;
  }

  #frame(type, data, position) {
    switch (type) {
      case "state.initial":
        return this.#initial(data, position);
      case "state.resumed":
        this.#resumed(data);
        return [];
      case "state.update":
        return this.#updates([data], { position, cause: data.cause ?? null, timestamp: data.timestamp });
      case "state.catchup":
        return this.#updates(data.updates, { position, cause: null, timestamp: data.timestamp });
      case "stream.end":
        this.end = endOf(data);
    }
    return []; // a heartbeat only moves the position
  }

  #initial(data, position) {
    const heartbeat = heartbeatOf(data), versions = versionsOf(data), { slices, reason, timestamp, view } = data;
    if (!isObject(slices)) throw new Gap("a state has no slices");
    for (const name of Object.keys(slices)) assertName(name);
    this.state = shared(this.state, chosen(slices, this.selects));
    this.versions = chosen(versions, this.selects);
    [this.heartbeat, this.#view, this.begun] = [heartbeat, view, true];
    return [{ kind: "initial", position, reason, timestamp }];
  }

  #resumed(data) {
    const heartbeat = heartbeatOf(data);
    if (!equal(chosen(versionsOf(data), this.selects), this.versions)) throw new Gap("the server resumed at other versions");
    if (data.view !== this.#view) throw new Gap("the server resumed with other views");
    this.heartbeat = heartbeat;
  }

  /** Applies all updates of a frame, or none. */
  #updates(items, context) {
    const state = { ...this.state }, versions = { ...this.versions };
    if (!Array.isArray(items) || !items.every(isUpdate)) throw new Gap("an update lacks its slice or its version");
    const newer = items.filter(({ slice, version }) => version > held(versions, slice) && this.selects(slice));
    const updates = newer.map((item) => ({ ...applied(state, versions, item), ...context }));
    [this.state, this.versions] = [state, versions];
    return updates;
  }
}

function parsed(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch (cause) {
    throw new Gap("the data of a frame is not JSON", { cause });
  }
  if (!isObject(data)) throw new Gap("the data of a frame is not an object");
  return data;
}

/** The members with these names. */
function chosen(record, selects) {
  const names = Object.keys(record), kept = names.filter(selects);
  return kept.length === names.length ? record : Object.fromEntries(kept.map((name) => [name, record[name]]));
}

const held = (versions, name) => (Object.hasOwn(versions, name) ? versions[name] : 0);

function isUpdate(item) {
  if (!isObject(item) || typeof item.slice !== "string" || !Number.isInteger(item.version)) return false;
  assertName(item.slice);
  return true;
}

function assertName(name) {
  if (name === "__proto__") throw new Gap("a slice has a name that the protocol forbids");
}

/** Applies one update to `state` and `versions`, and returns what it was. */
function applied(state, versions, item) {
  const { slice, version, patches, value } = item;
  if (item.removed === true) {
    delete state[slice];
    delete versions[slice];
    return { kind: "removed", slice, version };
  }
  const kind = "value" in item ? "value" : "patches";
  if (kind === "value") state[slice] = Object.hasOwn(state, slice) ? shared(state[slice], value) : value;
  else if (!Array.isArray(patches) || !patches.every(isObject)) throw new Gap("an update has no content");
  else if (item.from !== held(versions, slice) || !Object.hasOwn(state, slice)) throw new Gap("a change is missing");
  else state[slice] = patched(state[slice], patches);
  versions[slice] = version;
  return kind === "value" ? { kind, slice, version, value: state[slice] } : { kind, slice, version, patches };
}

/** Only the presence of `retry` decides whether it is final, not its value and not the reason. */
function endOf({ reason, retry }) {
  const ms = isTime(retry) ? Math.min(retry, MAX_MS) : null;
  return { reason: String(reason ?? NO_REASON), retry: ms, final: retry === undefined }; // JSON has no undefined
}

function heartbeatOf({ heartbeat }) {
  if (!isTime(heartbeat) || heartbeat > MAX_MS) throw new Gap("a first frame does not announce the heartbeat");
  return Math.max(MIN_HEARTBEAT_MS, heartbeat);
}

function versionsOf({ versions }) {
  if (!isObject(versions) || !Object.values(versions).every(Number.isInteger)) throw new Gap("a frame has no versions");
  for (const name of Object.keys(versions)) assertName(name);
  return { ...versions };
}
