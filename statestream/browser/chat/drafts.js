/* drafts.js: what the browser keeps for a person: what they have typed and not sent, by chat, and what they have chosen.
 *
 * A draft has the id that its message will have. It is kept with the text, so a message that was sent without an answer
 * is recognized after a reload, and never asked twice.
 *
 * Invariants: a draft is stored as it is typed, and removed when the server has the message. What does not fit into the
 * browser's storage is kept for as long as the page is open.
 */
import { newId } from "../dispatch.js";

const PREFIX = "statestream-chat";
export const NEW_CHAT = "new";

export class Drafts {
  #person;
  #memory = new Map();

  constructor(person) {
    this.#person = encodeURIComponent(person);
  }

  #key(kind, chat) {
    return `${PREFIX}:${this.#person}:${kind}:${chat}`;
  }

  #get(key) {
    if (this.#memory.has(key)) return this.#memory.get(key);
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  }

  /** A null removes it. */
  #set(key, value) {
    this.#memory.delete(key);
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, JSON.stringify(value));
    } catch {
      if (value !== null) this.#memory.set(key, value); // too much, or not allowed
    }
  }

  /** The draft of a chat: {id, text, files, sent, chat}. `sent`: the server may have it already, in that chat. */
  of(chat) {
    const { id, text, files, sent, chat: to } = this.#get(this.#key("draft", chat)) ?? {};
    const known = typeof id === "string" && typeof text === "string";
    return known ? { id, text, files: Array.isArray(files) ? files : [], sent: sent === true, chat: to } : empty();
  }

  keep(chat, draft) {
    this.#set(this.#key("draft", chat), draft.text === "" && draft.files.length === 0 && !draft.sent ? null : draft);
  }

  drop(chat) {
    this.#set(this.#key("draft", chat), null);
  }

  /** What stands in the place of a message that somebody is changing; null if nobody is. */
  editOf(chat, message) {
    return this.#get(this.#key("edit", `${chat}:${message}`));
  }

  keepEdit(chat, message, text) {
    this.#set(this.#key("edit", `${chat}:${message}`), text);
  }

  /** The chat that was open last. */
  get last() {
    return this.#get(this.#key("last", ""));
  }

  set last(chat) {
    this.#set(this.#key("last", ""), chat);
  }

  /** `light` or `dark`, if this person has chosen; null for what their system says. */
  get theme() {
    return this.#get(this.#key("theme", ""));
  }

  set theme(theme) {
    this.#set(this.#key("theme", ""), theme);
  }

  /** Calls `work(chat, before)` when another tab has changed a draft, which was `before`. */
  watch(work) {
    const start = this.#key("draft", "");
    addEventListener("storage", ({ key, oldValue }) => key?.startsWith(start) && work(key.slice(start.length), JSON.parse(oldValue)));
  }
}

export const empty = () => ({ id: newId(), text: "", files: [], sent: false });
