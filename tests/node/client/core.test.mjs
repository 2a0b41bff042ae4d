/* core.test.mjs: the parts of the web client that need no connection. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Gap } from "../../../statestream/browser/errors.js";
import { patched } from "../../../statestream/browser/patch.js";
import { Replica } from "../../../statestream/browser/replica.js";
import { shared } from "../../../statestream/browser/sharing.js";
import { Decoder } from "../../../statestream/browser/sse.js";

const bytes = (text) => new TextEncoder().encode(text);
const frame = (type, data, lastId = "2.b") => ({ type, data: typeof data === "string" ? data : JSON.stringify(data), lastId });

function begun(slices = { a: { list: [{ n: 1 }, { n: 2 }], other: {} } }) {
  const replica = new Replica(), versions = Object.fromEntries(Object.keys(slices).map((name) => [name, 1]));
  replica.apply(frame("state.initial", { reason: "start", slices, versions, heartbeat: 100 }, "1.a"));
  return replica;
}

test("a line or an event beyond the limit is refused, and one at the limit is not", () => {
  for (const text of ["data: 12345\n\n", "data: 12\ndata: 4\n\n", ": a long comment that is over at once\n\n"])
    assert.equal(new Decoder({ limit: 6 }).feed(bytes(text)).length, text.startsWith("data") ? 1 : 0);
  for (const text of ["data: 123456\n\n", "data: 12\ndata: 456\n", "data\n".repeat(7), ": never over", "unknown: never"])
    assert.throws(() => new Decoder({ limit: 6 }).feed(bytes(text)), { code: "too_large" });
});

test("what a decoder holds of a line without an end counts once", () => {
  const decoder = new Decoder({ limit: 12 });
  for (const piece of "data: 123456") assert.deepEqual(decoder.feed(bytes(piece)), []);
  assert.deepEqual(decoder.feed(bytes("\n\n")), [{ type: "message", data: "123456", lastId: "" }]);
  assert.throws(() => decoder.feed(bytes("data: 1234567")), { code: "too_large" });
});

test("a value that comes whole shares what is equal with the one before", () => {
  const replica = begun(), { a } = replica.state;
  const [update] = replica.apply(frame("state.update", { slice: "a", from: 1, version: 2, value: { list: [{ n: 1 }, { n: 3 }], other: {} } }));
  assert.equal(update.value, replica.state.a);
  assert.notEqual(replica.state.a, a);
  assert.equal(replica.state.a.list[0], a.list[0]);
  assert.equal(replica.state.a.other, a.other);
  assert.deepEqual(replica.state.a.list[1], { n: 3 });
});

test("a state that comes again is the same, and so are its parts", () => {
  const replica = begun(), { state } = replica, again = structuredClone(state);
  const data = { reason: "expired", slices: again, versions: { a: 9 }, heartbeat: 100 };
  replica.apply(frame("state.initial", data, "9.b"));
  assert.equal(replica.state, state);
  assert.deepEqual(replica.versions, { a: 9 });
  replica.apply(frame("state.initial", { ...data, slices: { ...again, b: 1 }, versions: { a: 9, b: 1 } }, "9.b"));
  assert.notEqual(replica.state, state);
  assert.equal(replica.state.a, state.a);
});

test("what is shared is equal to what came, also for values of other types", () => {
  const values = [0, 1, "", "1", null, true, false, [], {}, [[]], [{}], { a: [] }, { a: {} }, { a: null }, { 0: 1 }, [1]];
  for (const before of values) for (const after of values) assert.deepEqual(shared(before, structuredClone(after)), after);
  const deep = JSON.parse(`${"[".repeat(5000)}1${"]".repeat(5000)}`);
  assert.equal(shared(JSON.parse(JSON.stringify(1)), deep), deep);
  assert.doesNotThrow(() => shared(deep, [deep]));
});

test("no name in a frame reaches a prototype", () => {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty"];
  for (const name of names) {
    const replica = begun(), value = { polluted: name };
    const update = `{"slice":${JSON.stringify(name)},"from":0,"version":2,"value":${JSON.stringify(value)}}`;
    if (name === "__proto__") assert.throws(() => replica.apply(frame("state.update", update)), Gap);
    else {
      replica.apply(frame("state.update", update));
      assert.deepEqual(replica.state[name], value);
      assert.equal(replica.versions[name], 2);
    }
    assert.equal({}.polluted, undefined);
  }
  const whole = '{"reason":"start","slices":{"__proto__":{"polluted":1}},"versions":{},"heartbeat":1}';
  assert.throws(() => begun().apply(frame("state.initial", whole)), Gap);
  const own = JSON.parse('{"__proto__":{"polluted":1},"a":[1]}');
  for (const after of [shared({ a: [1] }, own), patched({ a: own }, [{ op: "add", path: "/a/b", value: 1 }]).a]) {
    assert.equal(after.polluted, undefined);
    assert.equal(Object.getPrototypeOf(after), Object.prototype);
  }
  for (const path of ["/__proto__/x", "/a/__proto__", "/constructor/prototype/x", "/a/toString/x"])
    assert.throws(() => patched({ a: {} }, [{ op: "add", path, value: 1 }]), Gap);
  assert.equal({}.x, undefined);
});

test("a frame that does not fit leaves everything as it was", () => {
  const replica = begun(), before = { ...replica };
  const frames = [
    "nonsense", "[]", "null", { slice: "a", version: "2", value: 1 }, { version: 2, value: 1 },
    { slice: "a", from: 1, version: 2, patches: [null] }, { slice: "a", from: 1, version: 2, patches: {} },
    { slice: "a", from: 1, version: 2, patches: [{ op: "add", path: "/list/0", value: 1 }, { op: "remove", path: "/no" }] },
  ];
  for (const data of frames) {
    assert.throws(() => replica.apply(frame("state.update", data)), Gap);
    assert.deepEqual({ ...replica }, before);
    assert.equal(replica.state, before.state);
  }
});
