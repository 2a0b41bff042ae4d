/* tool_runner.js: runs the calls of tools that a chat offers to windows.
 *
 * Invariants: a call runs only while this window has the claim to it, and once at a time in a page. The window renews the
 * claim until the server has the outcome. It never gives a claim back: after it has stopped, its claims expire.
 */
import { isUndecided, newId } from "./dispatch.js";

const WINDOW = newId(); // this page, for the server
const CLAIM_MS = 30_000; // how long a claim lasts
const RENEW_MS = 10_000;
const AGAIN_MS = 3_000; // after a claim was refused
const MAX_SENTENCE = 2_000;
const TOO_LARGE = 413;
const running = new Map(); // the runner of each call that runs in this page, by the id of its offer

/** Runs the calls of one chat. `tools()` gives the current tools; `request` sends to the server as a client does. */
export class ToolRunner {
  #chat;
  #tools;
  #request;
  #value;
  #runs = new Map(); // what ends each call that runs, by the id of its offer
  #done = new Set(); // calls of which the server has the outcome
  #refused = new Map(); // when to claim again what was refused
  #timer;

  constructor(chat, tools, request) {
    [this.#chat, this.#tools, this.#request] = [chat, tools, request];
  }

  /** Looks what the chat offers. `value` is that of its slice. */
  look(value = this.#value) {
    this.#value = value;
    clearTimeout(this.#timer);
    const offered = offeredIn(value), waits = [];
    for (const [id, run] of this.#runs) if (!offered.some(({ offer }) => offer.id === id)) run.abort();
    for (const part of offered) {
      const { id } = part.offer;
      if (this.#runs.has(id) || this.#done.has(id) || !Object.hasOwn(this.#tools(), part.name)) continue;
      const refused = (this.#refused.get(id) ?? 0) - Date.now();
      const wait = running.has(id) ? AGAIN_MS : Math.max(refused, claimedFor(part.offer));
      if (wait > 0) waits.push(wait);
      else void this.#run(part);
    }
    if (waits.length > 0) this.#timer = setTimeout(() => this.look(), Math.min(CLAIM_MS, ...waits));
  }

  /** Ends everything here. The claims expire. */
  stop() {
    clearTimeout(this.#timer);
    this.#value = undefined;
    for (const run of this.#runs.values()) run.abort();
  }

  async #run({ name, arguments: text, offer: { id } }) {
    const run = new AbortController(), { signal } = run;
    this.#runs.set(id, run);
    running.set(id, this);
    signal.addEventListener("abort", () => this.#forget(id));
    const renew = () => this.#post("claims", { id }, { attempts: 1 }).catch(({ reason }) => reason && run.abort());
    let renewing;
    try {
      await this.#post("claims", { id });
      if (signal.aborted) return;
      renewing = setInterval(renew, RENEW_MS);
      const outcome = await outcomeOf(this.#tools()[name], text, signal);
      if (await this.#send(id, outcome, signal)) this.#done.add(id);
    } catch (error) {
      if (error.code === "closed") this.stop();
      this.#refused.set(id, Date.now() + (error.reason === "claimed" ? AGAIN_MS : CLAIM_MS));
    } finally {
      clearInterval(renewing);
      this.#forget(id);
      this.look();
    }
  }

  #forget(id) {
    this.#runs.delete(id);
    if (running.get(id) === this) running.delete(id);
  }

  /** Whether the server has taken the outcome. It is sent until the server answers, or nobody needs it any more. */
  async #send(id, outcome, signal) {
    while (!signal.aborted) {
      try {
        await this.#post("results", { results: [{ id, ...outcome }] });
        return true;
      } catch (error) {
        if (isUndecided(error)) await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        else if (error.status === TOO_LARGE) outcome = { error: "The result is too large." };
        else throw error;
      }
    }
    return false;
  }

  #post(route, body, options) {
    return this.#request(`api/chats/${encodeURIComponent(this.#chat)}/${route}`, { ...body, window: WINDOW }, options);
  }
}

/** The calls that wait for a window. */
function offeredIn(chat) {
  const last = chat?.messages.at(-1); // a reply that waits is the newest message
  return last?.status === "waiting" ? last.parts.filter(({ status, offer }) => status === "waiting" && offer) : [];
}

/** For how long another window has the call. The clocks of this window and the server may differ. */
const claimedFor = ({ window = WINDOW, until = 0 }) => (window === WINDOW ? 0 : Math.min(CLAIM_MS, until - Date.now()));

async function outcomeOf(tool, text, signal) {
  try {
    const result = await tool(JSON.parse(text || "{}") ?? {}, { signal });
    return { result: JSON.parse(JSON.stringify(result ?? null)) };
  } catch (error) {
    if (!signal.aborted) console.warn(error);
    return { error: sentenceOf(error) };
  }
}

const sentenceOf = (error) => String(error?.message || error || "The tool failed.").slice(0, MAX_SENTENCE);
