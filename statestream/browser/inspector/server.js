/* server.js: requests of the inspector, beside those of the web client.
 *
 * Invariants: they go to the server of the page and to no other. A token is sent as a header. What the server refuses is
 * thrown as its error.
 */
import { errorOf } from "../refusals.js";

const PATIENCE_MS = 60_000;

/** The token that somebody has typed, perhaps as the whole header. Throws an Error if a header cannot carry it. */
export function tokenOf(text) {
  const token = text.trim().replace(/^Bearer\s+/i, "");
  if (/[^\x21-\x7e]/.test(token)) throw new Error("A token has only ASCII characters and no blanks. Copy it once more.");
  return token;
}

/** `root` is the URL of the server's root. */
export class Server {
  token = "";
  received = 0; // bytes of streams

  constructor(root) {
    this.root = root;
  }

  async #get(path, query = {}) {
    const url = new URL(path, this.root);
    for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== null) url.searchParams.set(name, value);
    const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    const response = await fetch(url, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.status !== 200) throw await errorOf(response);
    return response;
  }

  json = async (path, query) => (await this.#get(path, query)).json();
  text = async (path, query) => (await this.#get(path, query)).text();

  /** In place of `fetch` for the web client: streams have the payloads of actions, and their bytes are counted. */
  fetch = async (address, init) => {
    const url = new URL(address), streams = url.pathname.endsWith("/stream/state");
    if (streams) url.searchParams.set("cause", "full");
    const response = await fetch(url, init);
    if (!streams || response.status !== 200) return response;
    const transform = (chunk, to) => {
      this.received += chunk.length;
      to.enqueue(chunk);
    };
    return new Response(response.body.pipeThrough(new TransformStream({ transform })), response);
  };
}
