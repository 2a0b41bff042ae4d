/* sse.js: server-sent events, from bytes (WHATWG HTML, section 9.2.6).
 *
 * Invariants: pure; it does not know the frames of a state stream. It accepts every stream that the standard accepts,
 * split anywhere, and keeps at most `limit` characters: of a line that has no end yet, and of all data of an event.
 */
import { StatestreamError } from "./errors.js";

export const MAX_EVENT = 64 * 2 ** 20;
const LINE_END = /\r\n|\r|\n/;

/** Bytes in, events out. `lastId` is the cursor of the next connection; `retry` is the delay before it, or null. */
export class Decoder {
  retry = null;
  #text = new TextDecoder(); // removes a byte order mark, and replaces what is not UTF-8
  #limit;
  #rest = []; // the pieces of a line that has no end yet
  #size = 0;
  #afterCR = false;
  #type = "";
  #id;
  #data = [];

  constructor({ lastId = "", limit = MAX_EVENT } = {}) {
    this.lastId = this.#id = lastId;
    this.#limit = limit;
  }

  /** The events that `chunk` completes, as {type, data, lastId}. Throws a StatestreamError if one is too large. */
  feed(chunk) {
    let text = this.#text.decode(chunk, { stream: true });
    if (this.#afterCR && text) {
      if (text[0] === "\n") text = text.slice(1); // CR LF is one line end, even if a chunk ends between the two
      this.#afterCR = false;
    }
    if (text.endsWith("\r")) this.#afterCR = true;
    const lines = text.split(LINE_END), rest = lines.pop(), events = [];
    for (const line of lines) this.#line(this.#completed(line), events);
    if (rest) {
      this.#grow(rest.length);
      this.#rest.push(rest);
    }
    return events;
  }

  #completed(line) {
    if (!this.#rest.length) return line;
    const held = this.#rest.join("");
    this.#rest = [];
    this.#size -= held.length;
    return held + line;
  }

  #grow(size) {
    this.#size += size;
    if (this.#size <= this.#limit) return;
    throw new StatestreamError(`an event is longer than ${this.#limit} characters`, { code: "too_large" });
  }

  #line(line, events) {
    if (line === "") return this.#end(events);
    const colon = line.indexOf(":"), name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") {
      this.#grow(value.length + 1); // and the line feed between two lines, or empty ones would cost nothing
      this.#data.push(value);
    } else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
  }

  #end(events) {
    this.lastId = this.#id; // even without data
    const [type, data] = [this.#type || "message", this.#data];
    [this.#type, this.#data, this.#size] = ["", [], 0];
    if (data.length) events.push({ type, data: data.join("\n"), lastId: this.lastId });
  }
}
