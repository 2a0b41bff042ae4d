/* ai_sdk.mjs: a chat of the AI SDK behind lines of JSON: one process is one person's page. `node ai_sdk.mjs 6|7`.
 *
 * Invariants: everything is the SDK's own: its Chat, its transports, its parser. What a page does not await (a request that is
 * sent, a stream that is resumed) is not awaited here; `wait` tells when the chat looks like that, by its own events.
 */
import { createInterface } from "node:readline";

const PATIENCE_MS = 20_000;
const { ai, react, WebSocket } = await import(`./ai${process.argv[2]}/sdk.mjs`);

let chat = null;
let posts = []; // what went over the wire: method, url, body, status
let finished = []; // what onFinish was told
const underWay = new Set();

async function recorded(url, given) {
  const post = { method: given.method, url: String(url), body: given.body ? JSON.parse(given.body) : null };
  posts.push(post);
  const answer = await fetch(url, given);
  post.status = answer.status;
  return answer;
}

const TRANSPORTS = {
  ui: (options) => new ai.DefaultChatTransport(options),
  /** As the SDK's documentation cuts the request down. */
  last: (options) =>
    new ai.DefaultChatTransport({
      ...options,
      prepareSendMessagesRequest: ({ id, messages }) => ({ body: { id, message: messages.at(-1) } }),
    }),
  /** Of major 7 only. */
  socket: ({ api }) => new ai.WebSocketChatTransport({ url: api, webSocket: WebSocket }),
  text: (options) =>
    new ai.TextStreamChatTransport({ ...options, prepareReconnectToStreamRequest: ({ api }) => ({ api }) }),
};

function begin({ id, api, messages = [], transport = "ui" }) {
  posts = [];
  finished = [];
  chat = new react.Chat({
    id,
    messages,
    transport: TRANSPORTS[transport]({ api, fetch: recorded }),
    sendAutomaticallyWhen: (given) =>
      ai.lastAssistantMessageIsCompleteWithApprovalResponses(given) || ai.lastAssistantMessageIsCompleteWithToolCalls(given),
    onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
      finished.push({ isAbort, isDisconnect, isError, finishReason }),
  });
}

/** The page as it looks now. */
function look() {
  const { id, status, error, messages } = chat;
  return { id, status, error: error?.message ?? null, messages, posts, finished };
}

const text = (message) => message?.parts.map((part) => (part.type === "text" ? part.text : "")).join("") ?? "";

/** The page, once it has that status and its last message says that. */
function wait({ status, says }) {
  const there = () =>
    (status === undefined || chat.status === status) && (says === undefined || text(chat.messages.at(-1)).includes(says));
  return new Promise((resolve, reject) => {
    const off = [];
    const done = (how, value) => (clearTimeout(timer), off.forEach((end) => end()), how(value));
    const check = () => there() && done(resolve, look());
    const timer = setTimeout(
      () => done(reject, new Error(`never ${status} with ${says}: ${JSON.stringify(look())}`)),
      PATIENCE_MS,
    );
    off.push(chat["~registerMessagesCallback"](check), chat["~registerStatusCallback"](check));
    check();
  });
}

/** Not awaited, as in a page; `settled` awaits all that is under way. */
function go(promise) {
  underWay.add(promise);
  promise.finally(() => underWay.delete(promise));
}

/** The bytes, in pieces of that size, as an answer's body. */
function body(base64, size) {
  const bytes = Buffer.from(base64, "base64");
  const pieces = [];
  for (let at = 0; at < bytes.length; at += size) pieces.push(new Uint8Array(bytes.subarray(at, at + size)));
  return new ReadableStream({
    pull: (controller) => (pieces.length ? controller.enqueue(pieces.shift()) : controller.close()),
  });
}

/** A chat that is answered with these bytes. */
async function hear({ bytes, size, transport }) {
  const answer = async () => new Response(body(bytes, size), { status: 200 });
  const hearing = new react.Chat({ transport: TRANSPORTS[transport]({ api: "http://unused", fetch: answer }) });
  await hearing.sendMessage({ text: "What is it?" });
  return { status: hearing.status, error: hearing.error?.message ?? null, message: hearing.messages[1] ?? null };
}

/** A chat over a WebSocket on which these frames come when it asks: those of a golden file, under its request's id. */
async function hearFrames({ frames }) {
  class Replaying {
    readyState = 0;
    constructor() {
      queueMicrotask(() => ((this.readyState = 1), this.onopen?.({})));
    }
    send(text) {
      const { requestId } = JSON.parse(text);
      for (const frame of frames) queueMicrotask(() => this.onmessage({ data: JSON.stringify({ ...frame, requestId }) }));
    }
    close() {}
  }
  const transport = new ai.WebSocketChatTransport({ url: "ws://unused", webSocket: Replaying });
  const hearing = new react.Chat({ transport });
  await hearing.sendMessage({ text: "What is it?" });
  return { status: hearing.status, error: hearing.error?.message ?? null, message: hearing.messages[1] ?? null };
}

/** The same bytes through `readUIMessageStream`, as a program without a chat reads them: its last message. */
async function read({ bytes, size }) {
  const transport = new ai.DefaultChatTransport({ fetch: async () => new Response(body(bytes, size)) });
  const stream = await transport.reconnectToStream({ chatId: "x" });
  let last = null;
  let error = null;
  for await (const message of ai.readUIMessageStream({ stream, onError: (failure) => (error = failure.message) })) last = message;
  return { message: last, error };
}

const commands = {
  begin,
  look,
  wait,
  hear,
  hearFrames,
  read,
  send: ({ message, options }) => go(chat.sendMessage(message, options)),
  regenerate: (options) => go(chat.regenerate(options)),
  change: ({ messages }) => void (chat.messages = messages),
  resume: () => go(chat.resumeStream()),
  output: (output) => chat.addToolOutput(output),
  decide: (decision) => chat.addToolApprovalResponse(decision),
  stop: () => chat.stop(),
  settled: async () => {
    await Promise.all(underWay);
    return look();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...given } = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await commands[name](given)) ?? null };
  } catch (error) {
    answer = { error: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0); // whatever is still open: a page that is closed
