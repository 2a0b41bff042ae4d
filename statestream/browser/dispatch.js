/* dispatch.js: dispatching over HTTP, so that an action takes effect once, whatever happens to the connection.
 *
 * Invariants: every request has an id, so it is safe to repeat; each repeat is the same bytes. What the server refuses
 * is thrown as its error, with its code. Every attempt has a limit, and so has the number of attempts.
 */
import { Deadline } from "./deadline.js";
import { Lost, StatestreamError } from "./errors.js";
import { TEMPORARY, errorOf } from "./refusals.js";

const ATTEMPTS = 8;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 5_000;
const MAX_RETRY_AFTER_MS = 60_000; // if the server asks to wait longer, the program decides
const RESPONSE_MS = 30_000;
const BUSY = [...TEMPORARY, 502, 503, 504]; // statuses after which a retry may succeed; a proxy may send them as well

/** Sends actions of one client. */
export class Dispatcher {
  #root;
  #token;
  #closed = false;

  constructor(root, token) {
    [this.#root, this.#token] = [root, token];
  }

  /** Nothing is sent again from here on. An attempt that is under way runs to its end. */
  close() {
    this.#closed = true;
  }

  /** The result: {id, position, duplicate, changes}. Throws a StatestreamError. */
  async dispatch(type, payload = {}, { key, id = newId(), expect } = {}) {
    return resultOf(await this.#send("dispatch", { type, payload, key, id, expect }, textOf));
  }

  /** The JSON of the answer of another route; null for any other answer, such as a stream. */
  request(path, body = {}, options = {}) {
    return this.#send(path, body, jsonOf, options);
  }

  async #send(path, json, read, { attempts = ATTEMPTS, method = "POST" } = {}) {
    const url = new URL(`./${path.replace(/^\/+/, "")}`, this.#root); // no other server's
    const body = method === "GET" ? undefined : JSON.stringify(json);
    let last;
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      if (this.#closed) throw closed(last);
      try {
        return await this.#ask(url, { method, body }, read);
      } catch (error) {
        if (!isWorthARetry(error)) throw error;
        last = error;
      }
      const own = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt) * (0.5 + Math.random() / 2);
      const delay = Math.max(own, last.retryAfter ?? 0);
      if (attempt < attempts - 1) await new Promise((resolve) => setTimeout(resolve, delay));
    }
    if (last.status || attempts === 1) throw last;
    throw new Lost(`the server did not answer in ${attempts} attempts; the outcome is unknown`, { cause: last });
  }

  async #ask(url, what, read) {
    const deadline = new Deadline(), headers = { "Content-Type": "application/json" };
    deadline.extend(RESPONSE_MS);
    try {
      const response = await this.#token.request(url, { ...what, headers }, deadline);
      if (!response.ok) throw await errorOf(response);
      return await deadline.race(read(response)).catch(lost);
    } finally {
      deadline.abort();
    }
  }
}

const textOf = (response) => response.text();

async function jsonOf(response) {
  return response.headers.get("Content-Type")?.startsWith("application/json") ? response.json() : null;
}

function isWorthARetry(error) {
  return isUndecided(error) && (error.retryAfter ?? 0) <= MAX_RETRY_AFTER_MS;
}

/** Whether an action that has failed may have taken effect, or may do so if it is sent again. */
export function isUndecided(error) {
  return error instanceof Lost && (error.status === 0 || BUSY.includes(error.status));
}

function closed(last) {
  const outcome = last === undefined ? "nothing was sent" : "the outcome is unknown";
  return new StatestreamError(`the client was closed; ${outcome}`, { code: "closed", cause: last });
}

function lost(cause) {
  throw cause instanceof StatestreamError ? cause : new Lost("the response was cut off", { cause });
}

function resultOf(text) {
  try {
    const { id, position, duplicate, changes } = JSON.parse(text);
    if (typeof position === "string" && Array.isArray(changes)) return { id, position, duplicate, changes };
  } catch {
    // it is no answer
  }
  throw new StatestreamError("another program answered; check the URL", { code: "answer", status: 200 });
}

/** crypto.randomUUID exists on pages that came over https only. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
