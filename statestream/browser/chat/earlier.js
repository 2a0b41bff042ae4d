/* earlier.js: the messages of a chat that are no longer live. The server has them in an archive.
 *
 * Invariants: they are asked for page by page, from the newest to the oldest. They never change, so a page is asked for
 * once.
 */
import { viewOf } from "../conversation.js";
import { ask, chatPath } from "./server.js";

const LIMIT = 100;
const MAX_PAGES = 5; // in one go, if all messages of a page belong to other branches

const none = [];

export class Earlier {
  #chat;
  #messages = none; // of all branches, oldest first
  #asking = null;
  #complete = false;
  #live = none;
  #shown = { leaf: undefined, of: none, messages: none };

  constructor(chat) {
    this.#chat = chat;
  }

  /** What leaves the live messages has gone to the archive: it joins those that are known from there. */
  follow(live) {
    const before = this.#live;
    this.#live = live;
    if (before.length === 0 || live.length === 0 || before[0].id === live[0].id) return;
    const at = before.findIndex(({ id }) => id === live[0].id);
    if (at > 0) this.#messages = [...this.#messages, ...before.slice(0, at)];
    else [this.#messages, this.#complete] = [none, false]; // there may be others between
  }

  /** Those above that message, oldest first. */
  above(message) {
    const leaf = message?.parent;
    if (leaf === undefined) return none;
    if (this.#shown.leaf !== leaf || this.#shown.of !== this.#messages)
      this.#shown = { leaf, of: this.#messages, messages: viewOf({ messages: this.#messages, leaf }).messages };
    return this.#shown.messages;
  }

  /** Whether there may be more above that message. */
  hasMore(message) {
    return message?.parent !== undefined && !this.#complete;
  }

  /** Loads more of them. `live` are the live messages of all branches. */
  load(live, oldest) {
    this.#asking ??= this.#load(live, oldest).finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #load(live, oldest) {
    const before = this.above(oldest).length;
    for (let page = 0; page < MAX_PAGES && !this.#complete && this.above(oldest).length === before; page += 1) {
      const first = this.#messages[0] ?? live[0];
      if (first === undefined) return;
      const { messages } = await ask(
        "GET",
        chatPath(this.#chat, `/messages?before=${encodeURIComponent(first.id)}&limit=${LIMIT}`),
      );
      this.#complete = messages.length < LIMIT;
      this.#messages = [...messages, ...this.#messages];
    }
  }
}
