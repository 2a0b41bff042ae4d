/* token.js: the token with which a page authenticates, and requests that carry it.
 *
 * Invariants: a token is sent in a header, to the URL that the page has given, and nowhere else: with a token, no
 * redirect is followed. A function is asked for each connection, and once more after a 401; requests that find out at
 * the same time share one call. No error contains a token.
 */
import { Lost, StatestreamError } from "./errors.js";

const TOKEN = /^[!-~]+$/;

export class Token {
  #source;
  #fetch;
  #newest;
  #asking = null;

  /** `source`: a token, a function that returns one, or undefined. `fetch` sends the requests. */
  constructor(source, fetch) {
    if (source !== undefined && typeof source !== "function" && !isToken(source)) {
      const problem = "expected a token without blanks, or a function that returns one";
      throw new StatestreamError(problem, { code: "malformed" });
    }
    [this.#source, this.#fetch] = [source, fetch];
    this.#newest = typeof source === "function" ? undefined : source;
  }

  /** The response; if that is a 401, the one to the same request with the function's next token.
   *
   * `fresh`: begin with a new token. Throws a Lost, a StatestreamError, or the reason of the deadline.
   */
  async request(url, init, deadline, { fresh = false } = {}) {
    const known = this.#newest;
    let token = fresh || known === undefined ? await deadline.race(this.#next(known)) : known;
    let response = await this.#send(url, init, deadline, token);
    if (response.status !== 401 || typeof this.#source !== "function") return response;
    void response.body?.cancel().catch(() => {});
    token = await deadline.race(this.#next(token));
    return this.#send(url, init, deadline, token);
  }

  async #send(url, init, deadline, token) {
    const headers = token === undefined ? init.headers : { ...init.headers, Authorization: `Bearer ${token}` };
    const redirect = token === undefined ? "follow" : "manual"; // a redirect could lead anywhere
    const { signal } = deadline;
    let response;
    try {
      const request = this.#fetch(url.href, { cache: "no-store", ...init, headers, redirect, signal });
      response = await deadline.race(request);
    } catch (cause) {
      throw signal.aborted ? signal.reason : unreachable(url, cause);
    }
    if (isDetour(url, response)) {
      const detail = "the server redirects to where this client does not follow; use the new URL";
      throw new StatestreamError(detail, { code: "redirect", status: response.status });
    }
    return response;
  }

  /** The function's next token, unless another request has asked for it since `known`. */
  async #next(known) {
    if (typeof this.#source !== "function") return this.#newest;
    if (this.#asking === null && this.#newest !== known) return this.#newest;
    this.#asking ??= this.#ask();
    return this.#asking;
  }

  async #ask() {
    try {
      return (this.#newest = await called(this.#source));
    } finally {
      this.#asking = null; // in the same step: nobody sees neither the question nor the answer
    }
  }
}

const isToken = (value) => typeof value === "string" && TOKEN.test(value);

async function called(source) {
  let token;
  try {
    token = await source();
  } catch (cause) {
    console.error(cause);
    throw new Lost("the function that returns the token failed", { cause });
  }
  if (isToken(token)) return token;
  throw new StatestreamError("the function that returns the token returned something else", { code: "token" });
}

/** Whether a response is a redirect that was not followed, or came from one that gave up TLS. */
function isDetour(url, { type, status, url: final }) {
  if (type === "opaqueredirect" || (status >= 300 && status < 400)) return true;
  return url.protocol === "https:" && final?.startsWith("http:") === true;
}

function unreachable({ origin }, cause) {
  const here = globalThis.location?.origin ?? origin;
  const foreign = origin === here ? "" : ", or is of another origin and does not let this page read from it (CORS)";
  return new Lost(`the server does not answer${foreign}`, { cause });
}
