/* hooks.test.mjs: what the hooks stand on: the views of a chat, and feeds, which connect while somebody looks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { archiveOf } from "../../../statestream/browser/archive.js";
import { connect } from "../../../statestream/browser/client.js";
import { deskOf, keyOf, peopleIn, typingIn, viewOf } from "../../../statestream/browser/conversation.js";
import { Feed, Source } from "../../../statestream/browser/feed.js";
import { answering, eventually, initial, refusing, serving, streaming } from "./server.mjs";

const said = (id, role, text, more = {}) => ({ id, role, status: "complete", parts: [{ type: "text", text }], ...more });

const CHAT = {
  title: "Greetings",
  leaf: "a2",
  messages: [
    said("q", "user", "Hello?"),
    said("a1", "assistant", "Hi.", { parent: "q" }),
    said("q2", "user", "Again?", { parent: "a1" }),
    said("q3", "user", "Once more?", { parent: "a1" }),
    said("a2", "assistant", "", { parent: "q3", status: "streaming", parts: [
      { type: "reasoning", text: "", chunks: ["Hm", "m"] }, { type: "text", text: "Be", chunks: ["g", "un"] },
      { type: "tool", call: "c", name: "n", arguments: "{", chunks: ["}"], status: "streaming" },
    ] }),
  ],
};

test("a chat shows the way up from its leaf, with all text and the siblings of each message", () => {
  const view = viewOf(CHAT);
  assert.deepEqual(view.ids, ["q", "a1", "q3", "a2"]);
  assert.deepEqual(view.messages.map(({ text }) => text), ["Hello?", "Hi.", "Once more?", "Begun"]);
  assert.deepEqual(view.messages.map(({ siblings }) => siblings), [["q"], ["a1"], ["q2", "q3"], ["a2"]]);
  assert.deepEqual([view.status, view.title, view.leaf], ["streaming", "Greetings", "a2"]);
  const [thought, text, tool] = view.messages[3].parts;
  assert.deepEqual([thought.text, text.text, tool.arguments, "chunks" in text], ["Hmm", "Begun", "{}", false]);
});

test("equal chats have the same view, and only messages that have changed are other objects", () => {
  assert.equal(viewOf(CHAT), viewOf(CHAT));
  const grown = { ...CHAT.messages[4], parts: [{ type: "text", text: "Begun again" }] };
  const view = viewOf({ ...CHAT, messages: [...CHAT.messages.slice(0, 4), grown] });
  assert.deepEqual(view.messages.map((message, at) => message === viewOf(CHAT).messages[at]), [true, true, true, false]);
  const edited = said("q4", "user", "At last?", { parent: "a1" });
  const siblings = viewOf({ ...CHAT, messages: [...CHAT.messages, edited] }).messages[2].siblings;
  assert.deepEqual(siblings, ["q2", "q3", "q4"]);
});

test("without a chat, the view says why", () => {
  assert.deepEqual([viewOf(undefined).status, viewOf(null).status], ["loading", "missing"]);
  assert.deepEqual([viewOf(undefined).messages, viewOf({ messages: [] }).status], [[], "ready"]);
});

test("people are listed by when they came, under their names", () => {
  const people = { "%C5%81": { since: 2, typing: true, nodes: {} }, ann: { since: 1, nodes: {} } };
  assert.deepEqual(peopleIn({ people }), [{ name: "ann", since: 1, typing: false }, { name: "Ł", since: 2, typing: true }]);
  assert.deepEqual(peopleIn(null), []);
});

test("a text becomes the key that the server makes of it", () => {
  const keys = { "42": "42", "Łódź": "%C5%81%C3%B3d%C5%BA", "a/b (c)!'*": "a%2Fb%20%28c%29%21%27%2A", "a:b@c.d-e_f~g": "a:b@c.d-e_f~g" };
  for (const [text, key] of Object.entries(keys)) assert.equal(keyOf(text), key);
});

/** A desk, and what it has asked for. `answer` may throw. */
function desk(id, chat, answer = () => null) {
  const asked = [];
  const request = async (path, body, options) => (asked.push([path, body, options]), answer(path));
  return { desk: deskOf(id, () => viewOf(chat), request), asked };
}

test("what a person does names what they see", async () => {
  const { desk: chat, asked } = desk("a/b", CHAT);
  assert.equal(await chat.send("What?"), "a/b");
  await chat.send([{ type: "text", text: "This." }]);
  await chat.edit("q3", "Really?");
  await chat.regenerate();
  await chat.regenerate("a1");
  await chat.branch("q2");
  await chat.stop();
  const [first, second] = asked.splice(0, 2).map(([, body]) => body.messages[0]);
  assert.deepEqual([first.content, second.parts, first.id === second.id], ["What?", [{ type: "text", text: "This." }], false]);
  assert.deepEqual(asked, [
    ["api/chats/a%2Fb/stream", { messages: [{ id: "q3", role: "user", content: "Really?" }], leaf: "a2" }, undefined],
    ["api/chats/a%2Fb/stream", { trigger: "regenerate-message", messageId: "a2", leaf: "a2" }, { attempts: 1 }],
    ["api/chats/a%2Fb/stream", { trigger: "regenerate-message", messageId: "a1", leaf: "a2" }, { attempts: 1 }],
    ["api/chats/a%2Fb/branch", { message: "q2", leaf: "a2" }, { attempts: 1 }],
    ["api/chats/a%2Fb/stop", { activeStreamId: "a2" }, undefined],
  ]);
  const { desk: idle, asked: nothing } = desk("1", { messages: [] });
  await idle.stop();
  assert.deepEqual(nothing, []);
});

test("a message that was not accepted is sent again under the same id, in one new chat", async () => {
  let fails = true;
  const { desk: chat, asked } = desk(undefined, null, (path) => {
    if (path === "api/chats") return { id: "new" };
    if (fails) throw new Error("lost");
    return null;
  });
  await assert.rejects(chat.send("Hello?"), /lost/);
  await assert.rejects(chat.send("Hello?"), /lost/);
  await assert.rejects(chat.send("Hello!"), /lost/);
  fails = false;
  assert.equal(await chat.send("Hello!"), "new");
  await chat.send("Hello!");
  const ids = asked.slice(1).map(([, { messages }]) => messages[0].id);
  assert.deepEqual(asked.map(([path]) => path), ["api/chats", ...Array(5).fill("api/chats/new/stream")]);
  assert.deepEqual([ids[0] === ids[1], ids[1] === ids[2], ids[2] === ids[3], ids[3] === ids[4]], [true, false, true, false]);
});

test("two messages at once create one chat", async () => {
  const { desk: chat, asked } = desk(undefined, null, (path) => (path === "api/chats" ? { id: "new" } : null));
  assert.deepEqual(await Promise.all([chat.send("One"), chat.send("Two")]), ["new", "new"]);
  assert.deepEqual(asked.map(([path]) => path), ["api/chats", "api/chats/new/stream", "api/chats/new/stream"]);
});

test("a chat that could not be created is created with the next message", async () => {
  let fails = true;
  const { desk: chat, asked } = desk(undefined, null, () => {
    if (fails) throw new Error("lost");
    return { id: "new" };
  });
  const both = await Promise.allSettled([chat.send("One"), chat.send("Two")]);
  assert.deepEqual(both.map(({ status }) => status), ["rejected", "rejected"]);
  fails = false;
  assert.equal(await chat.send("Two"), "new");
  assert.deepEqual(asked.map(([path]) => path), ["api/chats", "api/chats", "api/chats/new/stream"]);
});

test("a message keeps its id when another one is accepted meanwhile", async () => {
  const answers = [], { desk: chat, asked } = desk("1", CHAT, () => new Promise((...settle) => answers.push(settle)));
  const first = chat.send("One"), second = chat.send("Two");
  const [[accept], [, fail]] = answers;
  accept(null);
  await first;
  fail(new Error("lost"));
  await assert.rejects(second, /lost/);
  const again = chat.send("Two");
  answers[2][0](null);
  await again;
  const ids = asked.map(([, { messages }]) => messages[0].id);
  assert.deepEqual([ids[0] === ids[1], ids[1] === ids[2]], [false, true]);
});

test("typing is reported at most once in three seconds, and its end at once", async () => {
  const asked = [], setTyping = typingIn("1", async (path, { typing }) => void asked.push([path, typing]));
  for (const typing of [true, true, undefined, false, true, true]) setTyping(typing);
  assert.deepEqual(asked.map(([, typing]) => typing), [true, false, true]);
  typingIn("1", async () => Promise.reject(new Error("lost")))(); // which would be reported if it were not ignored
});

/** A source on a real server, and what was asked of that. */
async function sourced(context, options, ...answers) {
  const { url, asked } = await serving(context, ...answers);
  return { source: new Source(undefined, url, options), asked };
}

const SNAPSHOT = { position: "1.a", slices: { board: { n: 1 } }, versions: { board: 1 } };
const resumed = ["state.resumed", "1.a", { versions: { board: 1 }, heartbeat: 15_000, timestamp: 1 }];

test("nothing is connected before somebody subscribes", async (context) => {
  const { source, asked } = await sourced(context, { slices: ["board"], snapshot: SNAPSHOT }, streaming(resumed));
  assert.deepEqual([source.base.shown.state, source.base.shown.begun], [SNAPSHOT.slices, true]);
  assert.equal(source.feedOf("room/1").shown.begun, false);
  assert.equal(asked.length, 0);
  const leave = source.base.subscribe(() => {});
  await eventually(() => source.base.shown.health.phase === "live");
  assert.equal(asked[0].headers["last-event-id"], "1.a");
  assert.equal(source.base.shown.state.board, SNAPSHOT.slices.board);
  leave();
});

test("a source follows beside its slices what somebody looks at, and no longer", async (context) => {
  const { source, asked } = await sourced(context, { slices: "board,room/*" }, streaming(initial({ board: 1 })));
  for (const name of ["board", "room/1", undefined]) assert.equal(source.feedOf(name), source.base);
  const hold = source.base.subscribe(() => {}), feed = source.feedOf("chat/1");
  assert.equal(source.feedOf("chat/1"), feed);
  const leave = feed.subscribe(() => {});
  await eventually(() => asked.length === 2);
  assert.deepEqual(asked.map(({ url }) => new URL(url, "http://x").searchParams.get("slices")), ["board,room/*", "chat/1"]);
  leave();
  await eventually(() => source.feedOf("chat/1") !== feed);
  hold();
});

test("a feed that is opened again is the one that has its slice", async (context) => {
  const { source } = await sourced(context, { slices: "board" }, streaming(initial({ board: 1 })));
  const hold = source.base.subscribe(() => {}), first = source.feedOf("chat/1");
  const ended = async (feed, leave) => {
    const { client } = feed;
    leave();
    await eventually(() => client.health.phase === "ended");
  };
  await ended(first, first.subscribe(() => {}));
  const second = source.feedOf("chat/1"), leaveSecond = second.subscribe(() => {});
  assert.notEqual(second, first);
  const leave = first.subscribe(() => {}); // by a component that was hidden, without a rendering
  assert.equal(source.feedOf("chat/1"), first);
  await ended(second, leaveSecond);
  assert.equal(source.feedOf("chat/1"), first);
  leave();
  hold();
});

test("a source of a client shows at once what that has", async (context) => {
  const { url } = await serving(context, streaming(resumed));
  const client = connect(url, { slices: "board", snapshot: SNAPSHOT }), { base } = new Source(client, undefined, {});
  assert.deepEqual([base.shown.state, base.shown.begun, base.shown.health], [SNAPSHOT.slices, true, client.health]);
  assert.equal(base.initial.begun, false, "a page from a server shows nothing yet");
  client.close();
});

test("without slices, a source has all that are plain", () => {
  const source = new Source(undefined, "http://127.0.0.1:9", {});
  assert.equal(source.feedOf("board"), source.base);
  assert.notEqual(source.feedOf("room/1"), source.base);
  assert.equal(new Source({ slices: "*", position: null }, undefined, {}).feedOf("room/1").shown.begun, false);
});

test("a feed that is opened again continues where it was", async (context) => {
  const change = ["state.update", "2.a", { slice: "board", from: 1, version: 2, value: { n: 2 }, cause: null, timestamp: 1 }];
  const { source, asked } = await sourced(context, { slices: "board" }, streaming(initial({ board: { n: 1 } }), change), streaming(
    ["state.resumed", "2.a", { versions: { board: 2 }, heartbeat: 15_000, timestamp: 1 }]));
  let leave = source.base.subscribe(() => {});
  await eventually(() => source.base.shown.state.board?.n === 2);
  const { client } = source.base;
  leave();
  await eventually(() => client.health.phase === "ended");
  leave = source.base.subscribe(() => {});
  assert.equal(source.base.shown.state.board.n, 2);
  await eventually(() => source.base.shown.health.phase === "live");
  assert.equal(asked[1].headers["last-event-id"], "2.a");
  leave();
});

test("who comes back within a second finds the same connection", async (context) => {
  const { source, asked } = await sourced(context, { slices: "board" }, streaming(initial({ board: 1 })));
  const { client } = source.base;
  source.base.subscribe(() => {})();
  const leave = source.base.subscribe(() => {});
  await eventually(() => source.base.shown.begun);
  assert.equal(source.base.client, client);
  assert.equal(asked.length, 1);
  leave();
});

test("a feed shows what its client has as soon as it is opened", () => {
  const listeners = new Set();
  const client = { state: { a: 1 }, position: "1.a", health: {}, subscribe: (each) => (listeners.add(each), () => listeners.delete(each)) };
  const feed = new Feed({ state: {}, begun: false, health: {} }, () => client, () => {});
  let told = 0;
  const leave = feed.subscribe(() => (told += 1));
  assert.deepEqual([feed.shown.state, feed.shown.begun], [{ a: 1 }, true]);
  client.state = { a: 2 };
  assert.deepEqual(feed.shown.state, { a: 1 }, "it changes when all are told");
  for (const listener of listeners) listener();
  assert.deepEqual([feed.shown.state, told], [{ a: 2 }, 2]);
  leave();
});

test("a refusal of the base is in what is shown", async (context) => {
  const { source } = await sourced(context, { slices: "board" }, refusing(404, "unknown_slice"), answering(500));
  const leave = source.base.subscribe(() => {});
  await eventually(() => source.base.shown.health.phase === "ended");
  assert.equal(source.base.shown.health.error.code, "unknown_slice");
  leave();
});

/** An archive of 250 messages, and what was asked of it. `keep(from)` makes those from there on the live ones. */
function archived() {
  const asked = [], told = [], more = {};
  const parentOf = (n) => (n ? { parent: `m${n - 1}` } : {});
  const all = Array.from({ length: 250 }, (_, n) => said(`m${n}`, n % 2 ? "assistant" : "user", `${n}`, parentOf(n)));
  const request = async (path, body, options) => {
    asked.push([path, body, options]);
    const at = all.findIndex(({ id }) => id === /before=(\w+)/.exec(path)[1]);
    await more.meanwhile?.();
    return { messages: all.slice(Math.max(0, at - 100), at) };
  };
  const archive = archiveOf("a/b", request, () => told.push(archive.viewOf().ids.length));
  const keep = (from, to = 250) => archive.viewOf({ leaf: `m${to - 1}`, messages: all.slice(from, to) });
  return { archive, asked, told, keep, all, more };
}

test("older messages are asked for page by page, until there are no more", async () => {
  const { archive, asked, told, keep } = archived();
  assert.deepEqual([archive.viewOf().status, archive.viewOf().hasOlder], ["loading", false]);
  const live = keep(220);
  assert.deepEqual([live.ids.length, live.hasOlder, live.status], [30, true, "ready"]);
  for (let page = 0; page < 4; page += 1) await archive.load();
  assert.deepEqual(told, [130, 230, 250, 250]);
  assert.deepEqual(asked, ["m220", "m120", "m20"].map((before) => [
    `api/chats/a%2Fb/messages?before=${before}`, undefined, { method: "GET", attempts: 1 },
  ]));
  const { ids, messages, hasOlder } = archive.viewOf();
  assert.deepEqual([ids[0], ids.at(-1), hasOlder, messages[7].text], ["m0", "m249", false, "7"]);
});

test("what leaves the live messages stays in the view, and what is between is not skipped", async () => {
  const { archive, keep } = archived();
  keep(100, 130);
  await archive.load();
  assert.equal(keep(120, 150).ids.length, 150);
  const { ids, hasOlder } = keep(200, 230); // nothing is known of those between
  assert.deepEqual([ids.length, hasOlder], [30, true]);
  await archive.load();
  assert.deepEqual(archive.viewOf().ids.slice(0, 2), ["m0", "m1"]); // which it still knows
});

test("pages that do not join what is known by now are asked for again", async () => {
  const { archive, asked, keep, more } = archived();
  keep(100, 130);
  more.meanwhile = async () => {
    more.meanwhile = undefined;
    keep(200, 230);
  };
  await archive.load();
  assert.deepEqual([asked.length, archive.viewOf().ids[0], archive.viewOf().ids.length], [2, "m0", 230]);
  const both = archived();
  both.keep(220);
  await Promise.all([both.archive.load(), both.archive.load()]);
  assert.deepEqual([both.asked.length, both.archive.viewOf().ids.length], [2, 130]);
});

test("an archive that has nothing ends the search, and what has not changed is the same object", async () => {
  const { archive, keep, all } = archived();
  all[0].parent = "lost";
  const before = keep(100);
  for (let page = 0; page < 2; page += 1) await archive.load();
  assert.deepEqual([archive.viewOf().ids.length, archive.viewOf().hasOlder], [250, false]);
  const view = archive.viewOf(), next = archive.viewOf({ leaf: "m249", messages: all.slice(100), title: "Named" });
  assert.deepEqual([next === view, next.ids === view.ids, next.messages === view.messages], [false, true, true]);
  assert.equal(next.title, "Named");
  assert.equal(before.messages[0], next.messages[100]);
});
