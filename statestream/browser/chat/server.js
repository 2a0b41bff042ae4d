/* server.js: requests of the page that the web client does not make: reading chats, and who takes part in one.
 *
 * Invariants: they go to the server of the page and to no other. What the server refuses is thrown as its error, and so
 * is a server that does not answer.
 */
import { Lost } from "../errors.js";
import { errorOf } from "../refusals.js";

const PATIENCE_MS = 30_000;
export const root = new URL("./", location.href);
export const chatPath = (id, rest = "") => `api/chats/${encodeURIComponent(id)}${rest}`;

/** The JSON of the answer; null if it has none. */
export async function ask(method, path, body) {
  const response = await send(method, path, body);
  if (!response.ok) throw await errorOf(response);
  return response.headers.get("Content-Type")?.startsWith("application/json") ? response.json() : null;
}

async function send(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const init = {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE_MS),
  };
  try {
    return await fetch(new URL(path, root), init);
  } catch (cause) {
    throw new Lost("the server does not answer", { cause });
  }
}

/** A sentence for people: what went wrong, and what they can do. */
export function explained(error) {
  if (!navigator.onLine) return "You are offline. Try again when you are back.";
  if (error instanceof Lost && (error.status ?? 0) === 0) return "The server does not answer. Try again in a moment.";
  const text = String(error.detail ?? error.message ?? error).replace(/^the server answers with status \d+: /, "");
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}

/** Whether a request may have failed only because the server could not be reached. */
export const isUnreached = (error) => error instanceof Lost;
