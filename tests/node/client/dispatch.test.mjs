/* dispatch.test.mjs: actions that take effect once, whatever happens to the connection. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { StatestreamError, connect } from "../../../statestream/browser/statestream.js";
import { answering, cut, eventually, refusing, serving, streaming } from "./server.mjs";

const DONE = { id: "x", position: "2.b", duplicate: false, changes: [{ slice: "board", version: 2 }] };
const done = answering(200, DONE);

/** A client of a server that answers dispatches one after the other, and what was dispatched. */
async function dispatching(context, { answers, ...options }) {
  const { url, asked } = await serving(context, ...answers);
  const never = new Promise(() => {}); // the stream does not concern these tests
  const request = (target, init) => (target.endsWith("/dispatch") ? fetch(target, init) : never);
  const client = connect(url, { ...options, fetch: request });
  context.after(client.close);
  return { client, asked };
}

test("a dispatch sends what the protocol says, and gives the answer", async (context) => {
  const { client, asked } = await dispatching(context, { answers: [done], token: "secret" });
  const result = await client.dispatch("room/joined", { name: "Ada" }, { key: "42", id: "request-1", expect: { board: 1 } });
  assert.deepEqual(result, DONE);
  await client.dispatch("board/cleared");
  const [first, second] = asked.map(({ body }) => JSON.parse(body));
  assert.deepEqual(first, { type: "room/joined", payload: { name: "Ada" }, key: "42", id: "request-1", expect: { board: 1 } });
  assert.match(second.id, /^[0-9a-f]{32}$/);
  assert.deepEqual({ ...second, id: "" }, { type: "board/cleared", payload: {}, id: "" });
  for (const { method, url, headers } of asked) {
    assert.deepEqual([method, url, headers.authorization], ["POST", "/dispatch", "Bearer secret"]);
    assert.equal(headers["content-type"], "application/json");
  }
});

test("what was not answered is sent again with the same bytes", async (context) => {
  const halved = (request, response) => {
    response.writeHead(200, { "Content-Length": 1000 });
    response.write("{");
    setTimeout(() => cut(request), 1);
  };
  const busy = [408, 425, 429, 502, 504].map((status) => answering(status, "<html>"));
  const failures = [cut, halved, refusing(503, "unavailable"), ...busy];
  await Promise.all(failures.map(async (failure) => {
    const { client, asked } = await dispatching(context, { answers: [failure, cut, done] });
    assert.deepEqual(await client.dispatch("board/cleared", { n: 1 }), DONE);
    assert.equal(asked.length, 3);
    assert.equal(new Set(asked.map(({ body }) => body)).size, 1);
  }));
});

test("a refusal is an error with its status, code and detail, and is not tried again", async (context) => {
  const refusals = [
    [400, "malformed"], [403, "forbidden"], [404, "unknown_action"], [409, "version_conflict"], [422, "invalid_payload"],
    [500, "handler_failed"], [409, "refused", { reason: "full" }],
  ];
  const { client, asked } = await dispatching(context, { answers: refusals.map((each) => refusing(...each)) });
  for (const [status, code, more] of refusals) {
    const error = await client.dispatch("board/cleared").catch((error) => error);
    assert.ok(error instanceof StatestreamError);
    assert.deepEqual([error.status, error.code, error.detail, error.reason], [status, code, `it is ${code}`, more?.reason]);
  }
  assert.equal(asked.length, refusals.length);
});

test("what the server asks to wait is never more than a timer can wait", async (context) => {
  const problem = { "Content-Type": "application/problem+json" };
  const answers = ["2147484", "9".repeat(400), "Fri, 31 Dec 9999 23:59:59 GMT"].map((value) =>
    answering(429, { code: "rate_limited", detail: "too much" }, { ...problem, "Retry-After": value }),
  );
  const { client } = await dispatching(context, { answers });
  for (let n = 0; n < answers.length; n += 1) {
    const error = await client.dispatch("board/cleared").catch((error) => error);
    assert.equal(error.retryAfter, 2 ** 31 - 1); // after more than this, setTimeout fires at once
  }
});

test("the client waits as long as the server asks, but not for ever", async (context) => {
  const problem = { "Content-Type": "application/problem+json" };
  const limited = (value) =>
    answering(429, { code: "rate_limited", detail: "too much" }, { ...problem, "Retry-After": value });
  const answers = [limited("1"), done, limited("3600"), limited(new Date(Date.now() + 3.6e6).toUTCString())];
  const { client, asked } = await dispatching(context, { answers });
  const began = performance.now();
  await client.dispatch("board/cleared");
  assert.ok(performance.now() - began >= 990);
  for (let n = 0; n < 2; n += 1) {
    const error = await client.dispatch("board/cleared").catch((error) => error);
    assert.deepEqual([error.status, error.code], [429, "rate_limited"]);
    assert.ok(error.retryAfter > 3_500_000 && error.retryAfter <= 3_600_000);
  }
  assert.equal(asked.length, 4);
});

test("an answer of another program is said to be one", async (context) => {
  const json = answering(404, { code: "not_found", detail: "Not here" }, { "Content-Type": "application/json" });
  const answers = [[200, "<html>"], [200, "{}"], [404, "<html>"], [404, "nothing here"]].map((each) => answering(...each));
  answers.push(json);
  const { client } = await dispatching(context, { answers });
  const errors = [];
  for (const _ of answers) errors.push(await client.dispatch("board/cleared").catch((error) => error));
  assert.deepEqual(errors.map(({ code }) => code), Array(5).fill("answer"));
  assert.match(errors[2].detail, /status 404: another program answered; check the URL/);
  assert.match(errors[3].detail, /status 404: nothing here/);
});

test("a function gives another token after a 401, and requests share one call", async (context) => {
  const answer = (request, response) =>
    request.headers.authorization === "Bearer t1" ? refusing(401, "unauthenticated")(request, response) : done(request, response);
  let calls = 0;
  const token = async () => `t${(calls += 1)}`;
  const { client, asked } = await dispatching(context, { answers: [answer], token });
  await eventually(() => calls === 1); // for the stream
  await Promise.all([client.dispatch("board/cleared"), client.dispatch("board/cleared")]);
  assert.equal(calls, 2);
  assert.deepEqual(asked.map(({ headers }) => headers.authorization).sort(), ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"]);
  assert.equal(new Set(asked.map(({ body }) => body)).size, 2);
});

test("a client that was closed sends nothing again", async (context) => {
  let answer;
  const { client, asked } = await dispatching(context, { answers: [(request, response) => (answer = response)] });
  const [kept, lost] = [client.dispatch("board/cleared"), client.dispatch("board/cleared")];
  await eventually(() => asked.length === 2);
  client.close();
  answer.end(JSON.stringify(DONE));
  const late = await client.dispatch("board/cleared").catch((error) => error);
  assert.deepEqual([late.code, /nothing was sent/.test(late.detail)], ["closed", true]);
  const settled = await Promise.race([kept, lost]);
  assert.deepEqual(settled, DONE);
});

test("arguments that cannot be right are refused at once", () => {
  const urls = ["", "board.example", "ftp://a.example", "http://a.example/stream/state", "http://a.example/dispatch/",
    "http://a.example?x=1", "http://a.example#x", "http://ann:secret@a.example"];
  for (const url of urls)
    assert.throws(() => connect(url), (error) => error.code === "malformed" && !error.message.includes("secret"));
  for (const token of ["", "two words", "ä", 7, null])
    assert.throws(() => connect("http://a.example", { token }), { code: "malformed" });
});

test("a server in a folder is asked there", async (context) => {
  const { url, asked } = await serving(context, (request, response) =>
    request.method === "POST" ? done(request, response) : streaming()(request, response));
  for (const root of ["/live", "/live/", "/live//"]) {
    const client = connect(`${url}${root}`, { slices: ["board", "room/50%25"] });
    context.after(client.close);
    await client.dispatch("board/cleared");
    await eventually(() => asked.length % 2 === 0);
  }
  const paths = ["/live/dispatch", "/live/stream/state?slices=board%2Croom%2F50%2525"];
  assert.deepEqual(new Set(asked.map(({ url }) => url)), new Set(paths));
});

/** A client whose requests to `/api` are answered one after the other. */
async function requesting(context, ...answers) {
  const { url, asked } = await serving(context, ...answers), never = new Promise(() => {});
  const request = (target, init) => (target.includes("/stream/state") ? never : fetch(target, init));
  const client = connect(url, { fetch: request, token: "secret" });
  context.after(client.close);
  return { client, asked };
}

const json = { "Content-Type": "application/json" };

test("a request to another route carries the token, and is sent again after a loss", async (context) => {
  const { client, asked } = await requesting(context, cut, answering(201, { id: "1" }, json));
  assert.deepEqual(await client.request("/api/chats"), { id: "1" });
  assert.deepEqual(asked.map(({ method, url, body }) => [method, url, body]), Array(2).fill(["POST", "/api/chats", "{}"]));
  assert.equal(asked[1].headers.authorization, "Bearer secret");
  const once = await requesting(context, cut);
  assert.equal((await once.client.request("api/chats", {}, { attempts: 1 }).catch((error) => error)).code, "unavailable");
  assert.equal(once.asked.length, 1);
});

test("a request can be a GET, which has no body", async (context) => {
  const { client, asked } = await requesting(context, cut, answering(200, { messages: [] }, json));
  const got = await client.request("api/chats/1/messages?limit=2", undefined, { method: "GET" });
  assert.deepEqual(got, { messages: [] });
  const [first, second] = asked.map(({ method, url, body, headers }) => [method, url, body, headers.authorization]);
  assert.deepEqual(first, ["GET", "/api/chats/1/messages?limit=2", "", "Bearer secret"]);
  assert.deepEqual(second, first);
});

test("a request gives null for what is no JSON, does not wait for its end, and throws what is refused", async (context) => {
  const stream = (_, response) => {
    response.writeHead(200, { "Content-Type": "text/plain" });
    response.write("and so on");
  };
  const { client } = await requesting(context, stream, answering(204), refusing(409, "refused", { reason: "busy" }));
  assert.equal(await client.request("api/chats/1/stream", { messages: [] }), null);
  assert.equal(await client.request("api/chats/1"), null);
  const { code, reason } = await client.request("api/chats/1").catch((error) => error);
  assert.deepEqual([code, reason], ["refused", "busy"]);
});

test("no path leads a request, and its token, to another server", async (context) => {
  const { client, asked } = await requesting(context, answering(200, {}, json));
  for (const path of ["//example.org/x", "http://example.org/x", "/\\example.org/x", "\\\\example.org"]) await client.request(path);
  assert.equal(asked.length, 4);
});
