/* sidebar.js: this person's chats, newest first, and what a search finds in them.
 *
 * Invariants: an entry keeps its element while the list changes, and with it the focus. One entry can be reached by
 * Tab, the others from there with the arrows.
 */
import { arrange, element, say, show } from "./elements.js";
import { MAX_READ, Search, matches, snippet, wordsOf } from "./search.js";
import { era } from "./times.js";

const WAIT_MS = 150; // after the last key
const UNTITLED = "New chat";
const MAX_FOUND = 50;

export const hashOf = (chat) => `#${encodeURIComponent(chat)}`;

export class Sidebar {
  #list;
  #found;
  #status;
  #field;
  #on;
  #items = new Map(); // {link, label, element} by chat
  #heads = new Map(); // headings, by era
  #chats = []; // [id, entry], newest first
  #value; // the slice that was drawn last
  #open = null;
  #search = new Search();
  #timer;
  #searched = "";
  #hits = new Map();
  #lines = new Map(); // elements of what was found, by chat and message
  #far = { read: 0, left: 0 };

  /** `on.pick(chat, message)`: somebody wants to see that chat, perhaps at that message. */
  constructor({ list, found, status, field }, on) {
    [this.#list, this.#found, this.#status, this.#field, this.#on] = [list, found, status, field, on];
    field.addEventListener("input", () => this.#typed());
    field.addEventListener("keydown", (event) => this.#fieldKey(event));
    for (const each of [list, found]) each.addEventListener("keydown", (event) => this.#key(event, each));
  }

  /** `chats` is the value of the slice, `open` the id of the chat that is shown. */
  render(chats, open) {
    if (chats !== this.#value)
      this.#chats = Object.entries(chats ?? {}).sort(([, one], [, other]) => other.updated_at - one.updated_at);
    [this.#value, this.#open] = [chats, open];
    const children = [];
    let last = null;
    for (const [id, entry] of this.#chats) {
      const name = era(entry.updated_at);
      if (name !== last) children.push(this.#head((last = name)));
      children.push(this.#item(id, entry));
    }
    const ids = new Set(this.#chats.map(([id]) => id));
    for (const id of this.#items.keys()) if (!ids.has(id)) this.#items.delete(id);
    arrange(this.#list, children);
    this.#list.classList.toggle("none", children.length === 0);
    this.#reachable();
  }

  get newest() {
    return this.#chats[0]?.[0] ?? null;
  }

  has(chat) {
    return this.#items.has(chat);
  }

  focusSearch() {
    this.#field.focus();
    this.#field.select();
  }

  #head(name) {
    let head = this.#heads.get(name);
    if (head === undefined) this.#heads.set(name, (head = element("li", { className: "era" }, name)));
    return head;
  }

  #item(id, { title, status }) {
    let item = this.#items.get(id);
    if (item === undefined) {
      const label = element("span", { className: "title", dir: "auto" }),
        link = element("a", { href: hashOf(id), onclick: (event) => this.#pick(event, id) }, label);
      item = { link, label, element: element("li", {}, link) };
      this.#items.set(id, item);
    }
    say(item.label, title ?? UNTITLED);
    item.link.classList.toggle("working", status === "streaming");
    item.link.classList.toggle("asking", status === "waiting");
    const said = { streaming: "a reply is growing", waiting: "a tool call waits" }[status];
    const state = said === undefined ? null : `${title ?? UNTITLED}, ${said}`;
    if (item.link.ariaLabel !== state) item.link.ariaLabel = state;
    if (id === this.#open) item.link.setAttribute("aria-current", "page");
    else item.link.removeAttribute("aria-current");
    return item.element;
  }

  #pick(event, chat, message) {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button > 0) return; // into another tab
    event.preventDefault();
    this.#on.pick(chat, message);
  }

  /** Tab comes to the open chat, or else to the first one. */
  #reachable() {
    const links = [...this.#list.querySelectorAll("a")],
      focused = links.find((link) => link === document.activeElement);
    const one = focused ?? this.#items.get(this.#open)?.link ?? links[0];
    for (const link of links) link.tabIndex = link === one ? 0 : -1;
  }

  #key(event, list) {
    const links = [...list.querySelectorAll("a")],
      at = links.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    if (to < 0) return this.focusSearch();
    links[Math.min(to, links.length - 1)].focus();
    if (list === this.#list) this.#reachable();
  }

  #fieldKey(event) {
    if (event.key === "Escape" && this.#field.value !== "") {
      event.stopPropagation();
      this.#field.value = "";
      this.#typed();
    }
    if (event.key !== "ArrowDown" && event.key !== "Enter") return;
    const first = (this.#found.hidden ? this.#list : this.#found).querySelector("a");
    event.preventDefault();
    if (event.key === "Enter" && !this.#found.hidden) first?.click();
    else first?.focus();
  }

  #typed() {
    clearTimeout(this.#timer);
    const query = this.#field.value;
    if (wordsOf(query).length === 0) {
      this.#search.stop();
      show(this.#found, false);
      show(this.#list, true);
      say(this.#status, "");
      return;
    }
    this.#timer = setTimeout(() => void this.#run(query), WAIT_MS);
  }

  async #run(query) {
    [this.#searched, this.#hits, this.#far] = [
      query,
      new Map(),
      { read: 0, left: Math.min(this.#chats.length, MAX_READ) },
    ];
    this.#lines.clear();
    this.#drawFound();
    await this.#search.run(this.#chats, query, ({ hits, ...far }) => {
      [this.#hits, this.#far] = [hits, far];
      this.#drawFound();
    });
  }

  #drawFound() {
    const words = wordsOf(this.#searched),
      entries = [];
    for (const [id, { title = UNTITLED }] of this.#chats) {
      if (matches(title, words)) entries.push(this.#hit(id, title, null, words));
      for (const message of this.#hits.get(id) ?? []) entries.push(this.#hit(id, title, message, words));
    }
    show(this.#list, false);
    show(this.#found, true);
    arrange(this.#found, entries.slice(0, MAX_FOUND)); // what has the focus keeps it
    const { read, left } = this.#far,
      count = entries.length === 0 ? "Nothing found" : entries.length === 1 ? "1 hit" : `${entries.length} hits`;
    const where =
      this.#chats.length > MAX_READ ? `the newest ${MAX_READ} of ${this.#chats.length} chats` : "your chats";
    this.#status.ariaLive = left > 0 ? "off" : "polite"; // a screen reader is told the end only
    say(
      this.#status,
      left > 0
        ? `Searching… ${read} of ${read + left} chats`
        : `${count} in ${where}, in titles and the messages that are live.`,
    );
  }

  #hit(id, title, message, words) {
    const key = JSON.stringify([id, title, message?.id]);
    let line = this.#lines.get(key);
    if (line === undefined) this.#lines.set(key, (line = this.#line(id, title, message, words)));
    return line;
  }

  #line(id, title, message, words) {
    const [before, hit, after] = snippet(message === null ? title : message.text, words);
    const line = element(
      "span",
      { className: message === null ? "title" : "line", dir: "auto" },
      before,
      element("mark", {}, hit),
      after,
    );
    const over = message === null ? null : element("span", { className: "over", dir: "auto" }, title);
    return element(
      "li",
      {},
      element("a", { href: hashOf(id), onclick: (event) => this.#pick(event, id, message?.id) }, over, line),
    );
  }
}
