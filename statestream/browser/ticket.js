/* ticket.js: a ticket for an EventSource or a WebSocket: a cookie of the server, which no script can read.
 *
 * Invariants: the token goes to the URL that the page has given, and nowhere else.
 */
import { Deadline } from "./deadline.js";
import { errorOf } from "./refusals.js";
import { Token } from "./token.js";

const RESPONSE_MS = 10_000;

/** Asks `url`, the server's `/tickets`, for one; `token` and `fetch` are those of `connect`.
 *
 * The first connection that you open within 30 s uses the ticket; when it is open, its cookie suffices for any others,
 * and for reconnects. Throws a StatestreamError with the server's reason.
 */
export async function ticket(url, token, { fetch = (...args) => globalThis.fetch(...args) } = {}) {
  const deadline = new Deadline(), target = new URL(url, globalThis.location?.href);
  deadline.extend(RESPONSE_MS);
  try {
    const response = await new Token(token, fetch).request(target, { method: "POST" }, deadline);
    if (!response.ok) throw await errorOf(response);
  } finally {
    deadline.abort();
  }
}
