/* inspector.test.mjs: the parts of the inspector that need no page. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { diff } from "../../../statestream/browser/inspector/diff.js";
import { age, bytesOf, indented, preview, size, visible } from "../../../statestream/browser/inspector/format.js";
import { Log, matches, MOST, sums } from "../../../statestream/browser/inspector/log.js";
import { at, pointerOf, segmentsOf, summary } from "../../../statestream/browser/inspector/pointer.js";
import { actionsOf } from "../../../statestream/browser/inspector/schema.js";
import { tokenOf } from "../../../statestream/browser/inspector/server.js";
import { recorded, Trace } from "../../../statestream/browser/inspector/trace.js";
import { Journal } from "../../../statestream/browser/inspector/travel.js";

const places = (before, after) => diff(before, after).found.map(({ kind, segments }) => `${kind} ${pointerOf(segments)}`);

test("a difference is where two values differ, and nowhere else", () => {
  assert.deepEqual(places({ a: 1, b: [1, 2, 3] }, { a: 1, b: [1, 2, 3] }), []);
  assert.deepEqual(places({ a: 1, b: 2 }, { b: 3, c: 4 }), ["removed /a", "changed /b", "added /c"]);
  assert.deepEqual(places([1, 2, 3, 4], [1, 9, 2, 3, 4]), ["added /1"]);
  assert.deepEqual(places([{ n: 1 }, { n: 2 }, { n: 3 }], [{ n: 1 }, { n: 3 }]), ["removed /1"]);
  assert.deepEqual(places([{ n: 1, m: 1 }], [{ n: 2, m: 1 }]), ["changed /0/n"]);
  assert.deepEqual(places({ a: [] }, { a: {} }), ["changed /a"]);
  assert.deepEqual(places({ a: null }, {}), ["removed /a"]);
  assert.deepEqual(places(JSON.parse('{"__proto__":1}'), {}), ["removed /__proto__"]);
});

test("a difference is bounded, in number and in depth", () => {
  const many = Object.fromEntries(Array.from({ length: 2000 }, (_, n) => [`key${n}`, n]));
  const { found, more } = diff({}, many, 100);
  assert.deepEqual([found.length, more], [100, true]);
  const deep = (end) => JSON.parse(`${"[".repeat(900)}${end}${"]".repeat(900)}`);
  assert.equal(diff(deep(1), deep(2)).found.length, 1);
});

test("what cannot be seen, or changes the direction of writing, is shown as an escape", () => {
  assert.equal(visible("a\u202eb\u0000c\u200bd\u2066e\ufeff"), "a\\u202eb\\u0000c\\u200bd\\u2066e\\ufeff");
  for (const hidden of "\u3164\u115f\u1160\u034f\u180e\u2800\ufe0f\uffa0") assert.equal(visible(hidden), `\\u${hidden.charCodeAt(0).toString(16).padStart(4, "0")}`);
  assert.equal(visible("a\u{e0041}\u{e0100}😀"), "a\\u{e0041}\\u{e0100}😀");
  assert.equal(visible("שלום <b>"), "שלום <b>");
  assert.equal(preview({ "\u202e": "\u202e" }), '{"\\u202e":"\\u202e"}');
  assert.equal(indented({ a: "x\u202e" }), '{\n  "a": "x\\u202e"\n}');
});

test("a preview takes no longer for a value of megabytes", () => {
  const large = { list: Array.from({ length: 200_000 }, (_, n) => ({ n, text: "x".repeat(100) })), text: "y".repeat(1e6) };
  const began = performance.now();
  for (let n = 0; n < 1000; n += 1) assert.ok(preview(large).length <= 160);
  for (let n = 0; n < 100; n += 1) assert.ok(indented(large).length < 21_000);
  assert.ok(performance.now() - began < 5000);
  assert.ok(preview("z".repeat(1e6)).endsWith("…"));
});

test("what is shown in lines is the JSON of a value, and of a value that is nested too deep its beginning", () => {
  for (const value of [1, null, "a", [], {}, [[]], { a: [1, { b: {} }], "": null }, ["x", [2]]])
    assert.equal(indented(value), JSON.stringify(value, null, 2));
  const deep = JSON.parse(`${"[".repeat(5000)}1${"]".repeat(5000)}`);
  assert.ok(indented(deep).endsWith("…"));
  assert.ok(preview(deep).length <= 160);
  assert.equal(indented("x".repeat(100), 10), `"${"x".repeat(9)}\n…`);
});

test("sizes and ages are told in their units", () => {
  assert.deepEqual([size(0), size(999), size(1500), size(2.5e6)], ["0 B", "999 B", "1.5 kB", "2.5 MB"]);
  assert.deepEqual([age(-5), age(59_999), age(61_000), age(7_200_000)], ["0 s", "59 s", "1 min", "2 h"]);
  assert.equal(bytesOf("é"), 4);
});

test("a pointer leads to a place, whatever its names are", () => {
  for (const segments of [[], [""], ["a/b", "~1", "~"], ["__proto__", "0"]]) assert.deepEqual(segmentsOf(pointerOf(segments)), segments);
  assert.equal(at({ a: { b: 1 } }, ["a", "b"]), 1);
  assert.equal(at({}, ["__proto__"]), undefined);
  assert.equal(at({}, ["constructor", "name"]), undefined);
  assert.equal(summary({ kind: "patches", patches: [{ op: "remove", path: "/a" }, { op: "add", path: "/b", value: 1 }] }), "- /a and 1 more");
});

/** A log of changes to one counter, as the client tells of them: so many in each call. */
function counted(changes, together = 7) {
  const log = new Log(), state = (n) => ({ state: { counter: n }, versions: { counter: n + 1 }, position: `${n + 1}.t` });
  const cause = { type: "counter/added", id: "1", actor: "ann" };
  log.append([{ kind: "initial", position: "1.t", reason: "start", timestamp: 1 }], state(0), state(0));
  for (let done = 0; done < changes; ) {
    const next = Math.min(changes, done + together), updates = [];
    for (let n = done + 1; n <= next; n += 1) updates.push({ kind: "value", slice: "counter", version: n + 1, value: n, position: `${n + 1}.t`, cause, timestamp: n });
    log.append(updates, state(done), state(next));
    done = next;
  }
  return log;
}

test("a log keeps the newest changes, and each continues the one before", () => {
  const log = counted(3 * MOST), { entries } = log;
  assert.equal(entries.length, log.length);
  assert.ok(log.length <= MOST && log.length > MOST - 300);
  assert.equal(entries.at(-1).value, 3 * MOST);
  assert.equal(entries[0].number, log.oldest);
  for (const [n, entry] of entries.entries()) if (n) assert.deepEqual([entry.after, entry.from], [entries[n - 1].position, entries[n - 1].version]);
});

test("a log is bounded by the bytes that its changes came as", () => {
  const log = new Log(), state = (n) => ({ state: { counter: n }, versions: { counter: n + 1 }, position: `${n + 1}.t` });
  const cause = { type: "counter/added", id: "1" };
  log.append([{ kind: "initial", position: "1.t", reason: "start", timestamp: 1 }], state(0), state(0), 1e6);
  for (let n = 1; n <= 100; n += 1)
    log.append([{ kind: "value", slice: "counter", version: n + 1, value: n, position: `${n + 1}.t`, cause, timestamp: n }], state(n - 1), state(n), 1 << 20);
  assert.ok(log.length >= 50 && log.length <= 64, log.length);
  const [{ base, entries }] = log.segments;
  assert.equal(entries[0].value, base.state.counter + 1);
  assert.equal(log.entries.at(-1).value, 100);
});

test("a state of the past shares what is the same now", async () => {
  const present = { state: { same: { list: [1, 2] }, other: { n: 2, deep: { a: 1 } } }, position: "5.t" };
  const server = { text: async () => JSON.stringify({ slices: { same: { list: [1, 2] }, other: { n: 1, deep: { a: 1 } } }, versions: {} }) };
  const { slices } = await new Journal(server, "*", () => present).stateAt("3.t");
  assert.equal(slices.same, present.state.same);
  assert.equal(slices.other.deep, present.state.other.deep);
  assert.equal(slices.other.n, 1);
});

test("a token is what a header can carry", () => {
  for (const text of ["abc", " abc\n", "Bearer abc", "bearer  abc"]) assert.equal(tokenOf(text), "abc");
  for (const text of ["a b", "ab\u200bc", "schlüssel", "a\nb"]) assert.throws(() => tokenOf(text), /ASCII/);
});

test("what was sent as one is replaced by the changes of which it is the sum", () => {
  const log = counted(10), change = (n, more) => ({ kind: "value", slice: "counter", version: n + 1, value: n, position: `${n + 1}.t`, timestamp: n, ...more });
  const at = (n) => ({ state: { counter: n }, versions: { counter: n + 1 }, position: `${n + 1}.t` });
  const cause = { type: "counter/added", id: "1" };
  const catchup = log.append([change(13, { cause: null })], at(10), at(13));
  const lagged = log.append([{ kind: "initial", position: "16.t", reason: "lagged", timestamp: 1 }], at(13), at(15));
  log.append([change(16, { cause })], at(15), at(16));
  const [first] = sums(catchup, "11.t"), [second] = sums(lagged, "14.t");
  assert.deepEqual([first.after, second.after], ["11.t", "14.t"]);
  const read = (...numbers) => numbers.map((n) => change(n, { cause, from: n, after: `${n}.t` }));
  log.fill(first.group, read(11, 12, 13));
  log.fill(second.group, read(14, 15));
  const { entries } = log;
  assert.deepEqual(entries.filter(({ kind }) => kind === "value").map(({ value }) => value), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
  assert.deepEqual(entries.map(({ number }) => number), entries.map(({ number }) => number).toSorted((a, b) => a - b));
  assert.equal(entries.length, log.length);
  const trace = new Trace(recorded(log.segments, { url: "http://x", slices: null, now: 0 }));
  assert.deepEqual(trace.stateAfter(trace.entries.findLast(({ version }) => version === 13)), { counter: 12 });
  assert.deepEqual(trace.stateAfter(trace.entries.at(-1)), { counter: 16 });
});

test("a filter has words, words that must not occur, and names", () => {
  const [, entry] = counted(1).entries, all = { words: [], slice: "", action: "", actor: "" };
  for (const [filter, passes] of [
    [{}, true], [{ words: ["add", "ANN".toLowerCase()] }, true], [{ words: ["-ann"] }, false], [{ words: ["-bob"] }, true], [{ slice: "counter" }, true],
    [{ slice: "count" }, false], [{ action: "counter/added" }, true], [{ actor: "bob" }, false],
  ]) assert.equal(matches(entry, { ...all, ...filter }), passes, JSON.stringify(filter));
});

test("what is exported is imported as it was, also after the oldest changes were dropped", () => {
  for (const changes of [1, 260, MOST + 1000]) {
    const log = counted(changes), trace = new Trace(recorded(log.segments, { url: "http://x", slices: null, now: 0 }));
    assert.deepEqual(trace.stateAfter(trace.entries.at(-1)), { counter: changes });
    const some = trace.entries[Math.floor(trace.entries.length / 2)];
    if (some.kind === "value") {
      assert.deepEqual(trace.stateAfter(some), { counter: some.value });
      assert.deepEqual(trace.stateBefore(some), { counter: some.value - 1 });
    }
    const kept = trace.entries.filter(({ kind }) => kind === "value").map(({ value }) => value);
    assert.deepEqual(kept.slice(1), kept.slice(0, -1).map((value) => value + 1));
  }
});

test("a file that is no recording is refused with its line", () => {
  for (const [text, problem] of [
    ["", /line 1/], ["x\n", /line 1/], ['{"recording":2}\n', /version 1/], ['{"recording":1}\n{"at":0}\n', /line 2/], ['{"recording":1}\n', /no state/],
    ['{"recording":1}\n{"at":0,"event":"heartbeat","id":"1.a","data":{}}\nnonsense\n', /line 3/],
  ]) assert.throws(() => new Trace(text), problem);
});

test("each action of a document has its fields, and what no field can express is JSON", () => {
  const ref = (name) => ({ $ref: `#/components/schemas/${name}` });
  const properties = {
    text: { type: "string", default: "x" }, some: { anyOf: [{ type: "integer" }, { type: "null" }] }, one: { enum: ["a", 1] }, owner: ref("Owner"),
    any: {}, several: { type: "array", items: {} }, endless: ref("Endless"),
  };
  const action = (type, more) => ({ properties: { type: { const: type }, payload: ref("payload"), ...more } });
  const schemas = {
    payload: { type: "object", properties, required: ["some", "owner"] }, Owner: { type: "object", properties: { name: { type: "string" } } },
    Endless: { type: "object", properties: { again: ref("Endless") } }, One: { anyOf: [action("b/c", { key: {} }), action("a/b")] },
  };
  const [first, second] = actionsOf({ components: { schemas } });
  assert.deepEqual([first.type, first.keyed, second.type, second.keyed], ["a/b", false, "b/c", true]);
  const kinds = first.fields.map(({ name, kind, required }) => `${name} ${kind}${required ? "!" : ""}`);
  assert.deepEqual(kinds, ["text string", "some integer!", "one choice", "owner group!", "any json", "several json", "endless group"]);
  assert.deepEqual(actionsOf({}), []);
});
