/* search.js: looks for words in the titles and messages of this person's chats.
 *
 * The server has no index, so the page reads the newest chats and looks itself. A chat is read again only if it has
 * changed since.
 *
 * Invariants: it says how far it has looked. Only messages on the branch that a chat shows are found.
 */
import { viewOf } from "../conversation.js";
import { ask, chatPath } from "./server.js";

export const MAX_READ = 100; // chats
const AT_ONCE = 4; // requests
const AROUND = 40; // characters beside a hit
const MAX_HITS = 3; // of one chat

const MARKS = /[*`#|]+|-{3,}/g; // of Markdown, which would stand between the words

const folded = (text) => text.normalize("NFC").toLowerCase();

/** The words of a query. */
export const wordsOf = (query) =>
  folded(query)
    .split(/\s+/)
    .filter((word) => word !== "");

/** Whether all words occur in a text. */
export const matches = (text, words) => words.every((word) => folded(text).includes(word));

/** A piece of the text around the first word: [before, the word, after]. */
export function snippet(text, [word]) {
  const flat = text.replace(/\s+/g, " "),
    at = folded(flat).indexOf(word),
    end = at + word.length;
  if (at < 0) return [flat.slice(0, 2 * AROUND), "", ""];
  const from = Math.max(0, at - AROUND),
    to = Math.min(flat.length, end + AROUND);
  return [
    (from > 0 ? "…" : "") + flat.slice(from, at),
    flat.slice(at, end),
    flat.slice(end, to) + (to < flat.length ? "…" : ""),
  ];
}

export class Search {
  #read = new Map(); // {stamp, messages: [{id, text}]} by chat
  #turn = 0;

  /** Looks in `chats`: [id, {updated_at}], newest first. `found({hits, read, left})` is called after each of them. */
  async run(chats, query, found) {
    const words = wordsOf(query),
      turn = (this.#turn += 1),
      queue = chats.slice(0, MAX_READ),
      hits = new Map();
    let next = 0,
      read = 0;
    const work = async () => {
      while (next < queue.length) {
        const [id, { updated_at }] = queue[next++];
        const messages = await this.#messages(id, updated_at);
        if (turn !== this.#turn) return;
        const those = messages
          .filter(({ text }) => matches(text, words))
          .reverse()
          .slice(0, MAX_HITS);
        if (those.length > 0) hits.set(id, those);
        read += 1;
        found({ hits, read, left: queue.length - read });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  }

  stop() {
    this.#turn += 1;
  }

  async #messages(id, stamp) {
    const known = this.#read.get(id);
    if (known?.stamp === stamp) return known.messages;
    try {
      const { messages } = viewOf(await ask("GET", chatPath(id)));
      const texts = messages
        .map((message) => ({ id: message.id, text: message.text.replace(MARKS, " ") }))
        .filter(({ text }) => text !== "");
      this.#read.set(id, { stamp, messages: texts });
      return texts;
    } catch {
      return known?.messages ?? []; // it was deleted meanwhile, or the server does not answer
    }
  }
}
