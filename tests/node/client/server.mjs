/* server.mjs: a server on a real socket that answers requests one after the other, as a test says.
 *
 * Invariants: it knows no expectation. What was asked is kept: method, path, headers, body.
 */
import { createServer } from "node:http";

/** `answers` are functions of (request, response); the last one answers all further requests. */
export async function serving(context, ...answers) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    const { method, url, headers } = request, answer = answers[Math.min(asked.length, answers.length - 1)];
    asked.push({ method, url, headers, body });
    answer(request, response);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => (server.closeAllConnections(), server.close()));
  return { url: `http://127.0.0.1:${server.address().port}`, asked };
}

export const cut = (request) => request.socket.destroy();

export const answering = (status, body = "", headers = {}) => (_, response) => {
  response.writeHead(status, headers);
  response.end(typeof body === "string" ? body : JSON.stringify(body));
};

export const refusing = (status, code, more = {}) =>
  answering(status, { code, detail: `it is ${code}`, ...more }, { "Content-Type": "application/problem+json" });

/** A stream that stays open after the frames, which are [event, id, data]. */
export const streaming = (...frames) => (_, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  response.write("retry: 10\n\n");
  for (const [event, id, data] of frames) response.write(framed(event, id, data));
};

export const framed = (event, id, data) => `event: ${event}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\n\n`;

export const initial = (slices, more = {}) => {
  const versions = Object.fromEntries(Object.keys(slices).map((name) => [name, 1]));
  return ["state.initial", "1.a", { reason: "start", slices, versions, heartbeat: 15_000, timestamp: 1, ...more }];
};

/** Once `look` gives something that is true, that. */
export async function eventually(look) {
  const given_up = performance.now() + 10_000;
  for (;;) {
    const found = look();
    if (found) return found;
    if (performance.now() > given_up) throw new Error(`never true: ${look}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
