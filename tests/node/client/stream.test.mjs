/* stream.test.mjs: how a client follows, and what it does when it cannot. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HeartbeatMonitor } from "../../../statestream/browser/health.js";
import { Replica } from "../../../statestream/browser/replica.js";
import { connect } from "../../../statestream/browser/statestream.js";
import { Connection } from "../../../statestream/browser/stream.js";
import { Token } from "../../../statestream/browser/token.js";
import { answering, cut, eventually, framed, initial, refusing, serving, streaming } from "./server.mjs";

async function following(context, options, ...answers) {
  const { url, asked } = await serving(context, ...answers);
  const client = connect(url, options);
  context.after(client.close);
  return { client, asked };
}

const board = (tasks) => ({ board: { tasks } });
const updated = (version, value) => {
  const cause = { type: "t", id: "i" };
  return ["state.update", `${version}.a`, { slice: "board", from: version - 1, version, value, cause, timestamp: 1 }];
};
const cursors = (asked) => asked.map(({ headers, url }) => headers["last-event-id"] ?? polled(url) ?? "-");
const polled = (url) => new URL(url, "http://localhost").searchParams.get("after");
/** Writes the frames, and closes the connection when they have arrived. */
const broken = (...frames) => (request, response) => (streaming(...frames)(request, response), response.end());

test("it resumes at its cursor after a loss, and starts again after a gap", async (context) => {
  const resumed = ["state.resumed", "1.a", { versions: { board: 1 }, heartbeat: 15_000, timestamp: 1 }];
  const gap = ["state.update", "9.a", { slice: "board", from: 8, version: 9, patches: [] }];
  const { client, asked } = await following(context, { slices: ["board"] },
    broken(initial(board([]))), cut, answering(503), broken(resumed, gap), streaming(initial(board([1]), { reason: "expired" })));
  assert.equal(client.snapshot, null);
  assert.deepEqual(await client.ready, board([]));
  await eventually(() => client.state.board.tasks.length === 1);
  assert.deepEqual(cursors(asked), ["-", "1.a", "1.a", "1.a", "-"]);
  assert.deepEqual(client.health, { level: "healthy", phase: "live", error: null });
  assert.equal(asked[0].headers.accept, "text/event-stream");
});

const SNAPSHOT = { position: "1.a", slices: board([]), versions: { board: 1 } };

test("a client continues after the snapshot that it was given", async (context) => {
  const resumed = ["state.resumed", "1.a", { versions: { board: 1 }, heartbeat: 15_000, timestamp: 1 }];
  const options = { slices: ["board"], snapshot: SNAPSHOT };
  const { client, asked } = await following(context, options, streaming(resumed, updated(2, { tasks: [1] })));
  assert.equal(client.state, SNAPSHOT.slices);
  assert.equal(await client.ready, SNAPSHOT.slices);
  assert.deepEqual([client.position, client.versions, client.health.phase], ["1.a", { board: 1 }, "connecting"]);
  await eventually(() => client.state.board.tasks.length === 1);
  assert.deepEqual(cursors(asked), ["1.a"]);
  assert.deepEqual(SNAPSHOT.slices, board([]));
  assert.deepEqual(client.snapshot, { position: "2.a", slices: board([1]), versions: { board: 2 } });
});

test("a snapshot that does not fit what the server has is replaced", async (context) => {
  const other = ["state.resumed", "1.a", { versions: { board: 1, secret: 1 }, heartbeat: 15_000, timestamp: 1 }];
  const { client, asked } = await following(context, { snapshot: SNAPSHOT }, streaming(other), streaming(initial(board([2]))));
  await eventually(() => client.state.board.tasks.length === 1);
  assert.deepEqual(cursors(asked), ["1.a", "-"]);
});

test("what is no snapshot is refused at once", () => {
  for (const snapshot of [null, {}, { ...SNAPSHOT, position: 1 }, { ...SNAPSHOT, slices: [] }, { ...SNAPSHOT, versions: undefined }])
    assert.throws(() => connect("http://127.0.0.1:9", { snapshot }), { code: "malformed" });
});

test("a client follows other slices of its server, with its token", async (context) => {
  const { client, asked } = await following(context, { slices: ["board"], token: "secret" }, streaming(initial(board([]))));
  const other = client.follow(["room/1"]);
  context.after(other.close);
  await eventually(() => asked.length === 2);
  assert.deepEqual(asked.map(({ url }) => new URL(url, "http://x").searchParams.get("slices")), ["board", "room/1"]);
  assert.deepEqual(asked.map(({ headers }) => headers.authorization), ["Bearer secret", "Bearer secret"]);
  assert.deepEqual([client.slices, other.slices], [["board"], ["room/1"]]);
});

for (const status of [400, 401, 403, 404, 405, 410, 413, 421, 422, 451]) {
  test(`a ${status} ends it with the reason`, async (context) => {
    const { client, asked } = await following(context, {}, refusing(status, "no_way"));
    const error = await client.ready.catch((error) => error);
    assert.deepEqual([error.status, error.code, error.detail], [status, "no_way", "it is no_way"]);
    assert.deepEqual(client.health, { level: "failed", phase: "ended", error });
    assert.equal(asked.length, status === 421 ? 2 : 1); // for 421, fetch itself tries another connection
    const late = await client.dispatch("board/cleared").catch((error) => error);
    assert.equal(late.code, "no_way", "dispatching is another question");
  });
}

test("what is temporary is tried again, and what is no stream is not", async (context) => {
  const temporary = [408, 425, 429, 500, 502, 503, 599].map((status) => refusing(status, "later"));
  const connection = await followed(context, 10, ...temporary, answering(200, "<html>", { "Content-Type": "text/html" }));
  await connection.running;
  assert.deepEqual([connection.error.code, connection.error.status], ["answer", 200]);
  assert.match(connection.error.detail, /expected a stream of events, got text\/html; check the URL/);
  assert.equal(connection.asked.length, 9);
});

/** A connection by itself; `retry` is sent by the first answer, after which the connection ends. */
async function followed(context, retry, ...answers) {
  const first = (_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.end(`retry: ${retry}\n\n`);
  };
  const { url, asked } = await serving(context, first, ...answers);
  const phases = [], monitor = new HeartbeatMonitor(() => {});
  const connection = new Connection({
    url: new URL(`${url}/stream/state`),
    token: new Token(undefined, fetch),
    replica: new Replica(),
    monitor,
    onEvent: () => {},
    onPhase: () => phases.push(connection.phase),
  });
  const slow = Math.random;
  Math.random = () => 0;
  context.after(() => (Math.random = slow));
  const running = connection.run();
  context.after(() => (connection.close(), monitor.stop(), running));
  await eventually(() => asked.length === 1);
  return Object.assign(connection, { running, asked, phases });
}

test("a page that has stood still knows how long nothing was received", async () => {
  const levels = [], monitor = new HeartbeatMonitor(() => levels.push(monitor.level));
  monitor.received(40);
  for (const end = Date.now() + 110; Date.now() < end; );
  await eventually(() => levels.length === 2);
  assert.deepEqual(levels, ["healthy", "failed"]);
  monitor.stop();
});

test("stream.end decides by `retry` alone", async (context) => {
  const busy = ["stream.end", "", { reason: "busy", retry: 20 }], over = ["stream.end", "", { reason: "busy" }];
  const { client, asked } = await following(context, {}, streaming(initial(board([])), busy), streaming(over));
  await eventually(() => client.health.phase === "ended");
  const { error } = client.health;
  assert.deepEqual([error.code, error.status], ["busy", 200]);
  assert.deepEqual(cursors(asked), ["-", "1.a"]);
  assert.deepEqual(client.state, board([]), "what it holds stays");
});

test("a wait that the server has specified is not cut short, any other one is", async (context) => {
  const end = ["stream.end", "", { reason: "busy", retry: 60_000 }];
  const long = (...frames) => (request, response) => (response.writeHead(200, { "Content-Type": "text/event-stream" }),
    response.write(["retry: 50000\n\n", ...frames.map((each) => framed(...each))].join("")));
  const connection = await followed(context, 50_000, long(initial(board([]))), long(initial(board([])), end));
  await eventually(() => connection.phase === "waiting");
  connection.wake();
  await eventually(() => connection.phase === "live");
  connection.wake(); // it is alive
  assert.equal(connection.phase, "live");
  connection.wake(true); // it may have been cut
  await eventually(() => connection.phase === "waiting" && connection.error.code === "busy");
  assert.deepEqual(cursors(connection.asked), ["-", "-", "1.a"]);
  connection.wake(true);
  await new Promise(setImmediate);
  assert.equal(connection.phase, "waiting");
  connection.close();
  await connection.running;
  assert.deepEqual([connection.phase, connection.error], ["ended", null]);
});

test("a connection that sleeps is closed, and resumes when it wakes", async (context) => {
  let closed = false;
  const watched = (request, response) => {
    request.socket.on("close", () => (closed = true));
    streaming(initial(board([])))(request, response);
  };
  const connection = await followed(context, 10, watched, streaming(initial(board([1]))));
  await eventually(() => connection.phase === "live");
  connection.sleep();
  await eventually(() => closed);
  await eventually(() => connection.phase === "waiting");
  await new Promise((resolve) => setTimeout(resolve, 50)); // longer than any delay
  assert.equal(connection.asked.length, 2);
  connection.wake(true);
  await eventually(() => connection.phase === "live");
  assert.deepEqual(cursors(connection.asked), ["-", "-", "1.a"]);
});

test("silence is noticed by the heartbeat that the server has announced", async (context) => {
  const levels = [];
  const brief = streaming(initial(board([]), { heartbeat: 40 }));
  const { client, asked } = await following(context, {}, brief, streaming(initial(board([1]))));
  client.subscribe(() => levels.push(client.health.level));
  await eventually(() => client.state.board?.tasks.length === 1 && levels.at(-1) === "healthy");
  assert.deepEqual(cursors(asked), ["-", "1.a"]);
  const seen = levels.filter((level, at) => level !== levels[at - 1]);
  assert.deepEqual([seen[0], seen.at(-1), seen.includes("degraded") || seen.includes("failed")], ["healthy", "healthy", true]);
});

test("comments are bytes too, and a heartbeat keeps it alive", async (context) => {
  const talking = (request, response) => {
    streaming(initial(board([]), { heartbeat: 40 }))(request, response);
    let n = 0;
    const timer = setInterval(() => response.write(n++ % 2 ? ": still here\n\n" : framed("heartbeat", "1.a", {})), 20);
    request.socket.on("close", () => clearInterval(timer));
  };
  const { client, asked } = await following(context, {}, talking);
  await client.ready;
  await new Promise((resolve) => setTimeout(resolve, 400));
  assert.deepEqual([asked.length, client.health.phase], [1, "live"]);
});

test("an event that is too large ends it, and one of two megabytes does not", async (context) => {
  const long = "x".repeat(2 << 20);
  const { client } = await following(context, {}, streaming(initial({ text: long })));
  assert.equal((await client.ready).text, long);
  const endless = (request, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const piece = `data: ${"x".repeat(1 << 20)}\n`;
    const more = () => { while (!response.destroyed && response.write(piece)); };
    response.on("drain", more);
    more();
  };
  const { client: other } = await following(context, {}, endless);
  const error = await other.ready.catch((error) => error);
  assert.equal(error.code, "too_large");
});

test("with a token, no redirect is followed; without one, it is", async (context) => {
  const there = await serving(context, streaming(initial(board([]))));
  const away = answering(307, "", { Location: `${there.url}/stream/state` });
  const { client } = await following(context, {}, away);
  await client.ready;
  const { client: careful } = await following(context, { token: "secret" }, away);
  assert.equal((await careful.ready.catch((error) => error)).code, "redirect");
  assert.equal(there.asked.length, 1);
});

test("listeners are called once for what comes together, and a listener that throws stops nothing", async (context) => {
  const frames = [initial(board([])), ...Array.from({ length: 50 }, (_, n) => updated(n + 2, { tasks: [n] }))];
  const calls = [], shown = [], errors = [], { error } = console;
  console.error = (problem) => errors.push(problem.message);
  context.after(() => (console.error = error));
  const all = frames.map(([event, id, data]) => framed(event, id, data)).join("");
  const whole = (_, response) => (response.writeHead(200, { "Content-Type": "text/event-stream" }), response.write(all));
  const { client } = await following(context, {}, whole);
  client.subscribe(() => { throw new Error("it is broken"); });
  const end = client.subscribe((updates) => calls.push(...updates));
  client.select((state) => state.board.tasks, (tasks, before) => shown.push([tasks, before]));
  client.select((state) => state.nothing, (value) => shown.push(value));
  await eventually(() => client.versions.board === 51 && calls.length === 51);
  assert.ok(shown.length <= 4, `${shown.length} calls`);
  assert.deepEqual(shown[0][1], undefined);
  assert.ok(shown.includes(undefined));
  assert.deepEqual(shown.filter(Boolean).at(-1)[0], [49]);
  assert.deepEqual(calls.map(({ kind }) => kind), ["initial", ...Array(50).fill("value")]);
  assert.deepEqual([calls[1].slice, calls[1].version, calls[1].position, calls[1].cause.type], ["board", 2, "2.a", "t"]);
  assert.deepEqual(new Set(errors), new Set(["it is broken"]));
  end();
  const { length } = calls;
  client.close();
  await eventually(() => client.health.phase === "ended");
  assert.equal(calls.length, length);
  assert.equal((await client.ready).board.tasks.length <= 1, true);
});

test("a listener that is 10,000 updates behind learns that everything may be different", async (context) => {
  const many = Array.from({ length: 10_001 }, (_, n) => framed(...updated(n + 2, n))).join("");
  const whole = (_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(framed(...initial(board([]))) + many);
  };
  const { client } = await following(context, {}, whole);
  const { setTimeout: real } = globalThis, held = [];
  globalThis.setTimeout = (work, ms) => (ms === 0 ? held.push(work) : real(work, ms)); // no notification before all is there
  context.after(() => (globalThis.setTimeout = real));
  const calls = [];
  client.subscribe((updates) => calls.push(...updates));
  const given_up = performance.now() + 10_000;
  while (client.versions.board !== 10_002 && performance.now() < given_up) await new Promise((resolve) => real(resolve, 5));
  held.forEach((work) => work());
  assert.equal(client.state.board, 10_000);
  assert.ok(calls.length < 10_000);
  assert.deepEqual([calls[0].kind, calls[0].reason], ["initial", "lagged"]);
});

/** A server whose streams may be held back. Polls are answered from `frames`, one answer for each cursor. */
function behindAProxy(state) {
  const quick = { heartbeat: 60 };
  return (request, response) => {
    const { searchParams } = new URL(request.url, "http://localhost"), polls = searchParams.get("live") === "long-poll";
    const cursor = searchParams.get("after") ?? request.headers["last-event-id"];
    if (polls) state.polls.push(cursor);
    else state.streams.push(cursor);
    if (!polls && state.held) return;
    const resumed = ["state.resumed", cursor, { versions: { board: Number.parseInt(cursor) }, ...quick, timestamp: 1 }];
    if (!polls) return streaming(...(cursor ? [resumed] : [initial(board([]), quick)]), ...state.then)(request, response);
    const version = Number.parseInt(cursor) + 1, news = version <= 4 ? [updated(version, { tasks: [version] })] : [];
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.end([resumed, ...news].map((frame) => framed(...frame)).join(""));
  };
}

test("after a silence it polls with its cursor, until a stream passes again", async (context) => {
  const state = { held: false, polls: [], streams: [], then: [] };
  const { url } = await serving(context, behindAProxy(state));
  const replica = new Replica(), phases = [];
  const connection = new Connection({
    url: new URL(`${url}/stream/state`), token: new Token(undefined, fetch), replica, probeMs: 20,
    monitor: new HeartbeatMonitor(() => {}), onEvent: () => (state.held = state.then.length === 0), onPhase: () => phases.push(connection.phase),
  });
  context.after(() => connection.close());
  const running = connection.run();
  await eventually(() => replica.state.board?.tasks[0] === 4);
  assert.deepEqual(state.polls.slice(0, 3), ["1.a", "2.a", "3.a"], "each poll continues where the last has ended");
  assert.equal(connection.phase, "live");
  [state.then, state.held] = [[updated(5, { tasks: ["passed"] })], false];
  connection.wake(true);
  await eventually(() => replica.state.board.tasks[0] === "passed");
  assert.equal(state.streams.at(-1), "4.a", "the stream continues where the polls have ended");
  connection.close();
  await running;
  assert.ok(!phases.includes("ended") || phases.at(-1) === "ended");
});

test("a server that does not know long polling is asked for streams again", async (context) => {
  const quick = { heartbeat: 60 }, resumed = ["state.resumed", "1.a", { versions: { board: 1 }, ...quick, timestamp: 1 }];
  const { client, asked } = await following(context, {}, streaming(initial(board([]), quick)),
    refusing(400, "malformed"), streaming(resumed, updated(2, { tasks: [2] })));
  await eventually(() => client.state.board?.tasks[0] === 2);
  assert.deepEqual(asked.slice(0, 3).map(({ url }) => url.includes("live=long-poll")), [false, true, false]);
});
