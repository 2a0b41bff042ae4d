/* drafts.js: what the browser keeps for a person: what they have typed and not sent, by chat; what they have chosen.
 *
 * A draft has the id that its message will have. It is kept with the text, so a message that was sent without an answer
 * is recognized after a reload, and never asked twice. Each window has drafts of its own; a new window begins with what
 * was typed last in any of them; a duplicated window begins with the drafts of the original.
 *
 * Invariants: a draft is stored as it is typed, and removed when the server has the message. An id stands for one text
 * with its files: a draft that is changed gets another one, because other windows may have the old draft. What does not
 * fit into the browser's storage is kept for as long as the page is open.
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

  #get(key, storage = localStorage) {
    if (this.#memory.has(key)) return this.#memory.get(key);
    try {
      return JSON.parse(storage.getItem(key));
    } catch {
      return null;
    }
  }

  /** A null removes it. Returns whether the browser has stored it. */
  #set(key, value, storage = localStorage) {
    this.#memory.delete(key);
    try {
      if (value === null) storage.removeItem(key);
      else storage.setItem(key, JSON.stringify(value));
      return true;
    } catch {
      this.#memory.set(key, value); // too much, or not allowed
      this.#forget(key, storage);
      return false;
    }
  }

  /** What was stored before is not true any more. */
  #forget(key, storage) {
    try {
      storage.removeItem(key);
    } catch {
      // nothing may be stored, so nothing is
    }
  }

  /** The draft of a chat: {id, text, files, sent, waits, chat}. `sent`: the server may have it already, in that chat;
   * `waits`: it is to be sent as soon as it can be. */
  of(chat) {
    const key = this.#key("draft", chat);
    const { id, text, files, sent, waits, chat: to } = this.#get(key, sessionStorage) ?? this.#get(key) ?? {};
    if (typeof id !== "string" || typeof text !== "string") return empty();
    return { id, text, files: Array.isArray(files) ? files : [], sent: sent === true, waits: waits === true, chat: to };
  }

  /** Returns whether it outlives the page. */
  keep(chat, draft) {
    const key = this.#key("draft", chat),
      isEmpty = draft.text === "" && draft.files.length === 0 && !draft.sent;
    const others = this.#set(key, isEmpty ? null : draft);
    return this.#set(key, draft, sessionStorage) && others;
  }

  /** Ends the draft with that id; one that was begun since stays. */
  drop(chat, id) {
    const key = this.#key("draft", chat);
    if (this.#get(key)?.id === id) this.#set(key, null);
    const own = this.#get(key, sessionStorage);
    if (own === null || own.id === id) this.#set(key, empty(), sessionStorage);
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
    addEventListener("storage", ({ key, oldValue, storageArea }) => {
      if (storageArea === localStorage && key?.startsWith(start)) work(key.slice(start.length), JSON.parse(oldValue));
    });
  }
}

export const empty = () => ({ id: newId(), text: "", files: [], sent: false });
