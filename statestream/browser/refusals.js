/* refusals.js: an unexpected response: whether to try again, and the server's explanation.
 *
 * Invariants: whether or not the body can be read, the status decides whether to try again. Only a problem document
 * with a code is an answer from the server; anything else is from another program, such as a proxy. Only the beginning
 * of the body is read, and only for a while.
 */
import { MAX_MS } from "./deadline.js";
import { Lost, StatestreamError } from "./errors.js";

export const TEMPORARY = [408, 425, 429]; // statuses below 500 after which a retry may succeed
const MAX_BYTES = 4096;
const EXPLANATION_MS = 3000;
const SHOWN_CHARACTERS = 200;

export const isTemporary = (status) => status >= 500 || TEMPORARY.includes(status);

/** The error that a response stands for: a Lost if its status is temporary. */
export async function errorOf(response) {
  const { status } = response, { code, detail, reason } = explained(await beginningOf(response), response);
  const more = { code, status, reason, retryAfter: retryAfterOf(response) };
  return isTemporary(status) ? new Lost(detail, more) : new StatestreamError(detail, more);
}

/** What a problem document says; `answer` and the beginning of any other text, but not of a page. */
function explained(text, { status, headers }) {
  try {
    const { code, detail, reason } = JSON.parse(text);
    if (headers.get("Content-Type")?.includes("problem+json") && code && detail) return { code, detail, reason };
  } catch {
    // it is no problem document
  }
  const shown = text.slice(0, SHOWN_CHARACTERS) || "it gives no reason";
  const detail = text.includes("<") ? "another program answered; check the URL" : shown;
  return { code: "answer", detail: `the server answers with status ${status}: ${detail}` };
}

async function beginningOf(response) {
  const reader = response.body?.getReader(), decoder = new TextDecoder();
  if (!reader) return "";
  const drop = () => void reader.cancel().catch(() => {});
  const limit = setTimeout(drop, EXPLANATION_MS);
  let text = "", size = 0;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      text += decoder.decode(next.value, { stream: true });
      size += next.value.length;
      if (size >= MAX_BYTES) break;
    }
  } catch {
    // what has come is all there is
  }
  clearTimeout(limit);
  drop();
  return text;
}

/** The header in milliseconds, as long as a timer can wait: seconds or a date. Undefined without one. */
function retryAfterOf(response) {
  const header = response.headers.get("Retry-After");
  if (header === null) return undefined;
  const ms = /^[0-9]+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), MAX_MS);
}
