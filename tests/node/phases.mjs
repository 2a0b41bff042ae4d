/* phases.mjs: a client of the three-phase protocol in JavaScript. `node phases.mjs FILE` reads frames, a line each, and
 * says what it has of every message; a page makes a `Follower`, which follows a chat over a WebSocket for ever.
 *
 * Invariants: it knows what the documentation says and shares no code with the product.
 */
export class Messages {
  texts = {};
  positions = {};
  repeated = [];

  take(frame) {
    if (frame.metadata.position) this.positions[frame.session_id] = frame.metadata.position;
    if (frame.type === "message") this.#begin(frame.id, frame.content);
    else if (frame.stream_start) this.#begin(frame.id, "");
    else if (frame.stream_chunk) this.texts[frame.id] += frame.chunk;
  }

  #begin(id, text) {
    if (id in this.texts) this.repeated.push(id);
    this.texts[id] = text;
  }
}

export class Follower {
  messages = new Messages();
  frames = [];
  closes = [];

  constructor(url, session) {
    Object.assign(this, { url, session });
    this.#open();
  }

  #open() {
    const position = this.messages.positions[this.session] ?? "";
    const query = new URLSearchParams({ session_id: this.session, position });
    this.socket = new WebSocket(`${this.url}?${query}`);
    this.socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data);
      this.frames.push(frame);
      this.messages.take(frame);
    };
    this.socket.onclose = ({ code }) => {
      this.closes.push(code);
      setTimeout(() => this.#open(), 50);
    };
  }

  ask(content, id) {
    this.socket.send(JSON.stringify({ type: "message", content, session_id: this.session, id }));
  }
}

if (globalThis.process?.argv[2]) {
  const { readFileSync } = await import("node:fs");
  const messages = new Messages();
  for (const line of readFileSync(process.argv[2], "utf8").trim().split("\n")) messages.take(JSON.parse(line));
  console.log(JSON.stringify(messages.texts));
}
