/* overlay.test.mjs: expected changes: shown at once, on top of those of others, and never twice. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { optimistic } from "../../../statestream/browser/optimistic.js";
import { Overlay } from "../../../statestream/browser/overlay.js";
import { Replica } from "../../../statestream/browser/replica.js";
import { StatestreamError, connect } from "../../../statestream/browser/statestream.js";
import { answering, cut, eventually, framed, initial, refusing, serving, streaming } from "./server.mjs";

const reducers = {
  "board/added": (board, { title }) => ({ ...board, tasks: [...board.tasks, title] }),
  "room/joined": (room, { name }) => ({ members: [...(room?.members ?? []), name] }),
  "board/broken": () => {
    throw new Error("it does not fit");
  },
};

/** A replica of two slices with an overlay, and what the server does with it. */
function begun({ selects } = {}) {
  const replica = new Replica(selects), overlay = new Overlay(replica, reducers, selects);
  const apply = (type, seq, data) => {
    overlay.updated(replica.apply({ type, data: JSON.stringify({ heartbeat: 100, timestamp: 1, ...data }), lastId: `${seq}.a` }));
    return overlay.state;
  };
  const whole = (seq, slices, versions) => apply("state.initial", seq, { reason: "lagged", slices, versions });
  const change = (slice, from, version, id, content) =>
    apply("state.update", version, { slice, from, version, cause: { type: "t", id }, ...content });
  const catchup = (seq, ...updates) => apply("state.catchup", seq, { updates });
  whole(1, { board: { tasks: ["a"], other: {} }, counter: 0 }, { board: 1, counter: 1 });
  return { overlay, replica, whole, change, catchup };
}

const adding = (title) => ({ patches: [{ op: "add", path: "/tasks/-", value: title }] });
const add = (overlay, id, title = id) => (overlay.add({ id, type: "board/added", payload: { title } }), overlay.state);
const tasks = ({ board }) => board.tasks.join("");

test("what is expected is shown at once, on top of what others change, and not in their order", () => {
  const { overlay, change } = begun();
  assert.equal(tasks(add(overlay, "b")), "ab");
  assert.equal(tasks(add(overlay, "c")), "abc");
  assert.equal(tasks(change("board", 1, 2, "other", adding("x"))), "axbc");
  assert.equal(tasks(change("board", 2, 3, "b", adding("b"))), "axbc");
  assert.equal(tasks(change("board", 3, 4, "other", adding("y"))), "axbyc");
  assert.equal(tasks(change("board", 4, 5, "c", adding("c"))), "axbyc");
});

test("it is replaced by the server's change, whatever that is", () => {
  const { overlay, change } = begun();
  add(overlay, "b");
  assert.equal(tasks(change("board", 1, 2, "b", adding("B"))), "aB");
  overlay.answered("b", [{ slice: "board", version: 2 }]);
  assert.equal(tasks(overlay.state), "aB");
});

test("what may have been sent is not shown twice, and is shown again once it is known that it was not", () => {
  const { overlay, whole } = begun();
  add(overlay, "b");
  add(overlay, "c");
  for (const id of ["b", "c"]) overlay.sent(id); // the page sleeps, and others may send
  assert.equal(tasks(whole(4, { board: { tasks: ["a", "b", "x"] }, counter: 0 }, { board: 4, counter: 1 })), "abc");
  overlay.unsent("c");
  assert.equal(tasks(overlay.state), "abc", "b may be in the new state or not");
  overlay.answered("b", [{ slice: "board", version: 3 }]);
  assert.equal(tasks(overlay.state), "abxc");
  overlay.unsent("c");
  assert.equal(tasks(whole(5, { board: { tasks: ["y"] }, counter: 0 }, { board: 5, counter: 1 })), "yc");
});

test("what the server has not answered is pending, in its order", () => {
  const { overlay, change } = begun();
  for (const id of ["b", "c", "d"]) add(overlay, id);
  overlay.add({ id: "r", type: "room/joined", payload: { name: "Ada" }, key: "1" });
  const ids = () => overlay.pending.map(({ id }) => id).join("");
  assert.deepEqual(overlay.pending.at(-1), { id: "r", type: "room/joined", payload: { name: "Ada" }, key: "1" });
  assert.equal(ids(), "bcdr");
  overlay.answered("c", [{ slice: "board", version: 9 }]);
  overlay.refused("r");
  assert.equal(ids(), "bd");
  change("board", 1, 2, "b", adding("b"));
  assert.equal(ids(), "d");
});

test("a refusal takes it back, and nothing else", () => {
  const { overlay, replica } = begun();
  add(overlay, "b");
  add(overlay, "c");
  overlay.refused("b");
  assert.equal(tasks(overlay.state), "ac");
  overlay.refused("c");
  assert.equal(overlay.state, replica.state);
});

test("the answer may come before the change, or after it", () => {
  for (const early of [true, false]) {
    const { overlay, change } = begun(), seen = [];
    const look = () => seen.push(tasks(overlay.state));
    const answer = () => (overlay.answered("b", [{ slice: "counter", version: 2 }, { slice: "board", version: 3 }]), look());
    add(overlay, "b");
    if (early) answer();
    change("counter", 1, 2, "b", { value: 1 });
    look();
    change("board", 1, 3, "b", adding("b"));
    look();
    if (!early) answer();
    assert.deepEqual(seen, ["ab", "ab", "ab"]);
  }
});

test("an accepted action that changes nothing there is over with its answer", () => {
  const { overlay, replica } = begun();
  add(overlay, "b");
  overlay.answered("b", [{ slice: "counter", version: 2 }]);
  assert.equal(overlay.state, replica.state);
});

test("a state that may contain it is not shown before the answer, so that nothing is there twice", () => {
  for (const contained of [true, false]) for (const kind of ["catchup", "whole"]) {
    const { overlay, whole, catchup, change } = begun(), list = contained ? ["a", "b", "x"] : ["a", "x"];
    const value = { tasks: list, other: {} };
    add(overlay, "b");
    overlay.sent("b");
    const shown = kind === "whole" ? whole(9, { board: value, counter: 5 }, { board: 9, counter: 8 })
      : catchup(9, { slice: "board", from: 1, version: 9, value }, { slice: "counter", from: 1, version: 8, value: 5 });
    assert.equal(tasks(shown), "ab");
    assert.equal(shown.counter, 5, "nothing was expected there");
    assert.equal(tasks(add(overlay, "c")), "abc");
    overlay.answered("b", [{ slice: "board", version: contained ? 5 : 10 }]);
    assert.equal(tasks(overlay.state), contained ? "abxc" : "axbc");
    overlay.refused("c");
    if (!contained) {
      change("board", 9, 10, "b", adding("b"));
    }
    assert.equal(tasks(overlay.state), contained ? "abx" : "axb");
  }
});

test("of several that a state may contain, none is shown twice, or left out, while they are answered", () => {
  const { overlay, catchup, change } = begun();
  for (const id of ["b", "c", "d"]) (add(overlay, id), overlay.sent(id));
  const value = { tasks: ["a", "b", "x", "c"], other: {} };
  assert.equal(tasks(catchup(9, { slice: "board", from: 1, version: 9, value })), "abcd");
  overlay.answered("b", [{ slice: "board", version: 5 }]);
  assert.equal(tasks(overlay.state), "abcd");
  assert.equal(tasks(change("board", 9, 10, "other", adding("y"))), "abcd");
  overlay.answered("c", [{ slice: "board", version: 9 }]);
  assert.equal(tasks(change("board", 10, 11, "d", adding("d"))), "abxcyd");
  assert.equal(tasks(overlay.state), "abxcyd");
  overlay.answered("d", [{ slice: "board", version: 11 }]);
  assert.equal(tasks(overlay.state), "abxcyd");
});

test("after the answer, a catch-up or a state is shown at once", () => {
  const { overlay, catchup } = begun();
  add(overlay, "b");
  overlay.answered("b", [{ slice: "board", version: 5 }]);
  const value = { tasks: ["b", "y"], other: {} };
  assert.equal(tasks(catchup(4, { slice: "board", from: 1, version: 4, value: { tasks: ["y"], other: {} } })), "yb");
  assert.equal(tasks(catchup(6, { slice: "board", from: 4, version: 6, value })), "by");
});

test("an instance is created, and is gone if somebody has removed it before it came", () => {
  const { overlay, change, whole } = begun();
  const join = (id) => overlay.add({ id, type: "room/joined", key: "1", payload: { name: id } });
  join("j");
  assert.deepEqual(overlay.state["room/1"], { members: ["j"] });
  overlay.refused("j");
  assert.ok(!("room/1" in overlay.state));
  join("k");
  overlay.answered("k", [{ slice: "room/1", version: 7 }]);
  assert.ok("room/1" in overlay.state);
  change("counter", 1, 9, "other", { value: 2 });
  assert.ok(!("room/1" in overlay.state), "its change would have come before");
  join("l");
  change("room/1", 0, 10, "l", { value: { members: ["l"] } });
  assert.deepEqual(overlay.state["room/1"], { members: ["l"] });
  whole(11, { board: { tasks: [], other: {} }, counter: 0 }, { board: 11, counter: 11 });
  assert.ok(!("room/1" in overlay.state));
});

test("what does not change keeps its identity, also when the server's change takes the place of the expected one", () => {
  const { overlay, change, replica } = begun(), before = overlay.state;
  const shown = add(overlay, "b");
  assert.equal(shown.board.other, before.board.other);
  assert.equal(overlay.state, shown);
  assert.equal(change("board", 1, 2, "b", adding("b")), shown);
  assert.equal(replica.state, shown);
  const later = change("board", 2, 3, "x", adding("x"));
  assert.equal(later.board.other, before.board.other);
});

test("an action that may have been sent before a reload is hidden on a state that may contain it, until its answer", () => {
  const { overlay, change } = begun();
  add(overlay, "b");
  overlay.sent("b", true);
  assert.equal(tasks(overlay.state), "a");
  assert.equal(tasks(add(overlay, "c")), "ac");
  overlay.answered("b", [{ slice: "board", version: 2 }]);
  assert.equal(tasks(overlay.state), "abc");
  assert.equal(tasks(change("board", 1, 2, "b", adding("b"))), "abc");
  const replica = new Replica(), early = new Overlay(replica, reducers);
  add(early, "b");
  early.sent("b", true);
  replica.begin({ position: "1.a", slices: { board: { tasks: ["a"] } }, versions: { board: 1 } });
  early.updated([]);
  assert.equal(tasks(early.state), "ab", "no state has come that could contain it");
});

test("an action of which the overlay hears twice is shown once", () => {
  const { overlay } = begun();
  add(overlay, "b");
  assert.equal(tasks(add(overlay, "b")), "ab");
  overlay.refused("b");
  assert.equal(tasks(overlay.state), "a");
});

test("a reducer that fails shows nothing, and neither does one of a slice that is not followed", (context) => {
  context.mock.method(console, "error", () => {});
  const { overlay, replica } = begun({ selects: (name) => name === "board" });
  overlay.add({ id: "1", type: "board/broken", payload: {} });
  overlay.add({ id: "2", type: "room/joined", key: "1", payload: { name: "n" } });
  assert.deepEqual(overlay.state, replica.state);
  assert.equal(console.error.mock.callCount(), 1);
});

const DONE = (version) => ({ id: "x", position: `${version}.a`, duplicate: false, changes: [{ slice: "board", version }] });

/** A client whose stream goes on as the test says, and whose dispatches are answered one after the other. */
async function dispatching(context, ...answers) {
  let stream;
  const sent = [];
  const { url } = await serving(context, (request, response) => {
    if (request.method === "POST") return answers[Math.min(sent.push(request), answers.length) - 1](request, response);
    streaming(initial({ board: { tasks: ["a"] } }))(request, (stream = response));
  });
  const client = connect(url, { slices: "board", optimistic: optimistic(reducers) });
  context.after(client.close);
  await client.ready;
  const update = (version, id, title) => stream.write(
    framed("state.update", `${version}.a`, { slice: "board", from: version - 1, version, cause: { type: "t", id }, ...adding(title), timestamp: 1 }),
  );
  return { client, sent, update };
}

test("a client shows an action before it is answered, and then the server's change", async (context) => {
  const { client, update } = await dispatching(context, (_, response) => setTimeout(() => answering(200, DONE(2))(null, response), 20));
  const seen = [];
  client.select((state) => tasks(state), (text) => seen.push(text));
  await eventually(() => seen.length === 1);
  const done = client.dispatch("board/added", { title: "b" }, { id: "b" });
  assert.equal(tasks(client.state), "ab");
  assert.equal((await done).position, "2.a");
  assert.equal(tasks(client.state), "ab");
  update(2, "b", "b");
  update(3, "other", "c");
  await eventually(() => tasks(client.state) === "abc");
  await eventually(() => seen.length === 3);
  assert.deepEqual(seen, ["a", "ab", "abc"]);
});

test("a client takes back what the server refuses, and says why", async (context) => {
  const { client } = await dispatching(context, refusing(409, "refused", { reason: "full" }));
  const refused = client.dispatch("board/added", { title: "b" });
  assert.equal(tasks(client.state), "ab");
  await assert.rejects(refused, { code: "refused", reason: "full" });
  assert.equal(tasks(client.state), "a");
});

test("an action with which the server fails is over, and does not hold up the next one", async (context) => {
  const { client } = await dispatching(context, refusing(500, "handler_failed"), answering(200, DONE(2)));
  const failed = client.dispatch("board/added", { title: "b" }), next = client.dispatch("board/added", { title: "c" });
  await assert.rejects(failed, { code: "handler_failed" });
  assert.equal(tasks(client.state), "ac");
  assert.equal((await next).position, "2.a");
});

test("only the server's own answer ends an action that is shown", async () => {
  const { replica } = begun(), lost = (code, status) => new StatestreamError("it is not here", { code, status });
  const failures = [lost("token"), lost("redirect", 302), lost("answer", 200), lost("unauthenticated", 401)];
  let sent = 0;
  const send = async () => {
    if (sent < failures.length) throw failures[sent++];
    return DONE(2);
  };
  const client = optimistic(reducers)({ replica, send, onChange: () => {}, group: null });
  const done = client.dispatch("board/added", { title: "b" });
  for (let n = 1; n <= failures.length; n += 1) {
    await eventually(() => sent === n);
    assert.equal(tasks(client.state), "ab");
    await new Promise((resolve) => setImmediate(resolve)); // it rests by now
    client.wake();
  }
  assert.equal((await done).position, "2.a");
});

test("actions that are shown are sent one after the other, for as long as it takes", async (context) => {
  const slow = (version) => (_, response) => setTimeout(() => answering(200, DONE(version))(null, response), 30);
  const { client, sent } = await dispatching(context, cut, slow(2), slow(3));
  const first = client.dispatch("board/added", { title: "b" }), second = client.dispatch("board/added", { title: "c" });
  assert.equal(tasks(client.state), "abc");
  await first;
  assert.equal(sent.length, 2);
  await second;
  assert.equal(sent.length, 3);
  const waiting = client.dispatch("board/added", { title: "d" }), never = client.dispatch("board/added", { title: "e" });
  client.close();
  await Promise.allSettled([waiting]);
  await assert.rejects(never, { code: "closed" });
});
