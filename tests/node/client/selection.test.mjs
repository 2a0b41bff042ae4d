/* selection.test.mjs: what is selected, and a replica of a part of a stream. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Gap } from "../../../statestream/browser/errors.js";
import { Replica } from "../../../statestream/browser/replica.js";
import { covers, same, selectionOf, selects, unionOf } from "../../../statestream/browser/selection.js";

const initial = (slices, lastId = "1.a") => {
  const versions = Object.fromEntries(Object.keys(slices).map((name) => [name, 1]));
  return { type: "state.initial", lastId, data: JSON.stringify({ reason: "start", slices, versions, heartbeat: 100 }) };
};
const update = (slice, version, value) =>
  ({ type: "state.update", lastId: `${version}.a`, data: JSON.stringify({ slice, from: version - 1, version, value }) });
const ofBoard = (name) => name === "board";

test("a selection has each item once, in order", () => {
  assert.equal(selectionOf(undefined), null);
  for (const given of [["room/*", "board", "board"], "board,room/*"]) assert.deepEqual(selectionOf(given), ["board", "room/*"]);
  assert.ok(same(selectionOf("a,b"), selectionOf(["b", "a"])));
  assert.ok(!same(selectionOf("a"), null));
});

test("an item selects what the protocol says", () => {
  const rows = [
    [null, "board", true], [null, "room/1", false],
    [["*"], "board", true], [["*"], "room/1", true],
    [["room/*"], "room/1", true], [["room/*"], "room", false], [["room/*"], "rooms/1", false], [["room/*"], "roo/1", false],
    [["room/1"], "room/1", true], [["room/1"], "room/11", false], [["board"], "board", true], [["board"], "board/1", false],
  ];
  for (const [selection, name, expected] of rows) assert.equal(selects(selection, name), expected, `${selection} ${name}`);
});

test("a selection covers what it has, what its stars stand for, and nothing else", () => {
  const rows = [
    [null, null, true], [null, ["board"], false], [["*"], null, false],
    [["board", "room/*"], ["room/1", "board"], true], [["*"], ["room/*", "board"], true],
    [["room/1"], ["room/*"], false], [["room/*"], ["*"], false], [["board"], ["board", "room/1"], false],
  ];
  for (const [selection, items, expected] of rows) assert.equal(covers(selection, items), expected, `${selection} ${items}`);
});

test("a union covers all of its parts, and has no item that another one covers", () => {
  const rows = [
    [[null, null], null],
    [[["board"]], ["board"]],
    [[["room/2", "board"], ["board", "room/1"]], ["board", "room/1", "room/2"]],
    [[["room/1", "board"], ["room/*"]], ["board", "room/*"]],
    [[["room/1"], ["*"], ["room/*"]], ["*"]],
    [[[""], ["board"]], ["", "board"]],
  ];
  for (const [parts, expected] of rows) {
    assert.deepEqual(unionOf(parts), expected);
    for (const part of parts) assert.ok(covers(unionOf(parts), part));
  }
});

test("a replica of a part of a stream holds and tells that part, at the position of all", () => {
  const part = new Replica(ofBoard), whole = new Replica();
  for (const event of [initial({ board: 1, "room/1": 1 }), update("room/1", 2, 2), update("board", 3, 3)])
    [part, whole].map((replica) => replica.apply(event));
  assert.deepEqual([part.state, part.versions, part.position], [{ board: 3 }, { board: 3 }, "3.a"]);
  assert.deepEqual(part.apply(update("room/1", 4, 4)), []);
  assert.equal(part.position, "4.a");
  part.apply({ type: "state.resumed", lastId: "4.a", data: '{"versions":{"board":3,"room/1":4},"heartbeat":100}' });
  const catchup = { updates: [{ slice: "board", from: 3, version: 5, value: 5 }, { slice: "room/1", from: 4, version: 6, value: 6 }] };
  const told = part.apply({ type: "state.catchup", lastId: "6.a", data: JSON.stringify(catchup) });
  assert.deepEqual(told.map(({ slice, version }) => [slice, version]), [["board", 5]]);
  const missed = '{"versions":{"board":6,"room/1":6},"heartbeat":100}';
  assert.throws(() => part.apply({ type: "state.resumed", lastId: "6.a", data: missed }), Gap);
});

test("a replica gives others a first frame, whole or at their position", () => {
  const whole = new Replica(), late = new Replica(ofBoard);
  whole.apply(initial({ board: [1], "room/1": 1 }));
  late.apply(whole.firstFrame(ofBoard, null));
  assert.deepEqual([late.state, late.versions, late.position, late.heartbeat], [{ board: [1] }, { board: 1 }, "1.a", 100]);
  assert.deepEqual(late.apply(whole.firstFrame(ofBoard, "1.a")), []);
  whole.apply(update("board", 2, [2]));
  assert.equal(late.apply(whole.firstFrame(ofBoard, "1.a"))[0].kind, "initial");
  assert.deepEqual(late.state, { board: [2] });
});

test("a replica grows at its own position only, and shrinks", () => {
  const replica = new Replica();
  replica.apply(initial({ board: 1 }));
  const copy = replica.copy();
  for (const position of ["2.b", undefined])
    assert.throws(() => copy.adopt({ position, slices: { "room/1": 7 }, versions: { "room/1": 1 } }), Gap);
  assert.throws(() => copy.adopt({ position: "1.a", slices: { "room/1": 7 }, versions: null }), Gap);
  assert.throws(() => copy.adopt({ position: "1.a", slices: JSON.parse('{"__proto__":{}}'), versions: {} }), Gap);
  copy.adopt({ position: "1.a", slices: { "room/1": 7 }, versions: { "room/1": 1 } });
  assert.deepEqual([copy.state, copy.versions], [{ board: 1, "room/1": 7 }, { board: 1, "room/1": 1 }]);
  copy.restrict((name) => name !== "board");
  assert.deepEqual([copy.state, copy.versions], [{ "room/1": 7 }, { "room/1": 1 }]);
  assert.deepEqual([replica.state, replica.versions], [{ board: 1 }, { board: 1 }], "the original is another one");
});
