/* messages.js: the messages of a chat as a list that people scroll.
 *
 * Only the end of a long chat is drawn at first; going up draws more, and asks the server for what is no longer live.
 *
 * Invariants: the page scrolls by itself only while the reader is at the end. Nothing moves under the eyes of somebody
 * who reads further up. A screen reader announces once what others write, and a reply once it is complete.
 */
import { UNFINISHED } from "../conversation.js";
import { arrange, say, show } from "./elements.js";
import { MessageView, controlOf } from "./message.js";
import { explained } from "./server.js";

const FIRST = 30; // messages that are drawn when a chat is opened
const MORE = 40;
const NEAR = 500; // pixels
const AT_END = 48; // pixels from the end that count as the end
const SPOKEN = 600; // characters of a message that a screen reader reads
const MOST = 3; // messages that it reads at once
const SKEW_MS = 60_000; // by which the clocks of servers may differ

export class Messages {
  #scroller;
  #list;
  #views = new Map(); // by id
  #talk = null;
  #context;
  #first = null; // the id of the first message that is drawn
  #atEnd = true;
  #loading = false;
  #shown = [];
  #heard = null; // the ids of the messages that were drawn; null before the first ones
  #latest = 0; // when the newest of them was created
  #growing = null; // the reply that was growing or waiting when it was last drawn
  #part;
  #fresh = []; // elements that are drawn whole at first, so that their height is known

  /** `context` is what views need: {me, drafts}, and `rest()`, which takes the focus when nothing else can have it. */
  constructor(scroller, parts, context) {
    [this.#scroller, this.#part, this.#context] = [scroller, parts, context];
    this.#list = parts.list;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    parts.jump.addEventListener("click", () => this.toEnd());
    parts.more.addEventListener("click", () => void this.#extend());
    new ResizeObserver(() => this.#stick()).observe(this.#list);
    new ResizeObserver(() => this.#stick()).observe(scroller);
  }

  open(talk) {
    this.#talk = talk;
    [this.#first, this.#atEnd, this.#shown] = [null, true, []];
    [this.#heard, this.#latest, this.#growing] = [null, 0, null];
    this.#views.clear();
    this.#list.replaceChildren();
    say(this.#part.trouble, "");
    show(this.#part.jump, false);
  }

  render() {
    const all = this.#talk.messages,
      start = this.#startIn(all),
      messages = all.slice(start);
    this.#first = messages[0]?.id ?? null;
    this.#shown = messages;
    const views = messages.map((message, at) => this.#viewOf(message, at === messages.length - 1));
    if (
      views.length !== this.#list.children.length ||
      views.some((view, at) => view.element !== this.#list.children[at])
    )
      this.#rearrange(messages, views);
    show(this.#part.more, start > 0 || this.#talk.view.hasOlder);
    if (this.#fresh.length > 0) this.#settle();
    this.#speak(all);
    this.#stick();
  }

  /** From here on, the browser may leave out what cannot be seen. */
  #settle() {
    const settled = this.#fresh.splice(0);
    requestAnimationFrame(() => requestAnimationFrame(() => settled.forEach((each) => each.classList.remove("fresh"))));
  }

  #startIn(all) {
    const at = this.#first === null ? -1 : all.findIndex(({ id }) => id === this.#first);
    return at < 0 ? Math.max(0, all.length - FIRST) : at;
  }

  #viewOf(message, isLast) {
    let view = this.#views.get(message.id);
    if (view === undefined) {
      const { me, drafts } = this.#context,
        { desk, id: chat } = this.#talk;
      view = new MessageView(message, { desk, drafts, chat, mine: message.role === "user" && message.author === me });
      this.#views.set(message.id, view);
      this.#fresh.push(view.element);
    }
    view.update(message, isLast);
    return view;
  }

  #rearrange(messages, views) {
    const shown = new Set(messages.map(({ id }) => id));
    for (const id of this.#views.keys()) if (!shown.has(id)) this.#views.delete(id);
    for (const view of views) view.forget();
    const focused = document.activeElement,
      held = this.#list.contains(focused) && focused.closest(".bar, .outcome, .editor") ? focused : null;
    const from = held?.closest(".message");
    arrange(
      this.#list,
      views.map((view) => view.element),
    );
    if (held !== null && !from.isConnected) this.#refocus(messages, from.dataset.id, controlOf(held));
  }

  /** The version of a message that takes the place of another one takes its focus, too. */
  #refocus(messages, gone, control) {
    const sibling = messages.find(({ siblings }) => siblings.includes(gone));
    if (!this.#views.get(sibling?.id)?.focus(control)) this.#context.rest();
  }

  /** Tells screen readers what others have written since the chat was last drawn, and how a reply has ended.
   *
   * New messages are at the end. So are those of another version that somebody shows, but these are older.
   */
  #speak(all) {
    if (this.#talk.view.status === "loading") return;
    const isFirst = this.#heard === null,
      heard = (this.#heard ??= new Set()),
      since = this.#latest - SKEW_MS;
    let known = all.length;
    while (known > 0 && !heard.has(all[known - 1].id)) known -= 1;
    const added = all.slice(known);
    for (const { id, created_at } of added) {
      heard.add(id);
      this.#latest = Math.max(this.#latest, created_at);
    }
    const growing = this.#growing,
      changed = all.findLast(({ id, status }) => id === growing?.id && status !== growing.status);
    this.#growing = UNFINISHED.includes(all.at(-1)?.status) ? all.at(-1) : null;
    const isNews = ({ role, author, created_at }) =>
      created_at >= since && (role === "assistant" || author !== this.#context.me);
    const news = isFirst ? [] : added.filter(isNews);
    if (changed && changed.status !== "streaming") news.unshift(changed);
    if (news.length > 0) say(this.#part.live, spoken(news));
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < AT_END;
    show(this.#part.jump, !this.#atEnd);
    this.#look();
  }

  /** Draws more if the reader comes near to the beginning of what is drawn. */
  #look() {
    if (!this.#part.more.hidden && this.#shown.length > 0 && this.#scroller.scrollTop < NEAR) void this.#extend();
  }

  #stick() {
    if (this.#atEnd && this.#shown.length > 0) this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  toEnd() {
    this.#atEnd = true;
    show(this.#part.jump, false);
    this.#stick();
  }

  /** Draws more of what is above, and asks for it if it is not here. */
  async #extend() {
    if (this.#loading || this.#talk === null) return;
    const talk = this.#talk,
      at = this.#startIn(talk.messages);
    this.#loading = true;
    say(this.#part.trouble, "");
    try {
      if (at < MORE && talk.view.hasOlder) await talk.loadOlder();
      if (talk === this.#talk) this.#above(MORE);
    } catch (error) {
      if (talk === this.#talk) say(this.#part.trouble, explained(error));
    } finally {
      this.#loading = false;
    }
    requestAnimationFrame(() => this.#part.trouble.textContent === "" && this.#look());
  }

  /** Draws that many more, and leaves what is seen where it is. */
  #above(count) {
    const all = this.#talk.messages,
      seen = this.#list.firstElementChild,
      top = seen?.getBoundingClientRect().top ?? 0;
    const { style } = this.#scroller;
    style.overflowAnchor = "none"; // the browser would do the same once more
    this.#first = all[Math.max(0, this.#startIn(all) - count)]?.id ?? null;
    this.render();
    if (seen !== null && !this.#atEnd) this.#scroller.scrollTop += seen.getBoundingClientRect().top - top;
    requestAnimationFrame(() => (style.overflowAnchor = ""));
  }

  /** Goes to a message, which may be far up. */
  async reveal(id) {
    const talk = this.#talk;
    for (
      let was = -1;
      talk === this.#talk &&
      !talk.messages.some((message) => message.id === id) &&
      talk.view.hasOlder &&
      talk.messages.length > was;
    ) {
      was = talk.messages.length;
      await talk.loadOlder();
    }
    const at = talk.messages.findIndex((message) => message.id === id);
    if (talk !== this.#talk || at < 0) return;
    if (at < this.#startIn(talk.messages)) this.#first = talk.messages[Math.max(0, at - 5)].id;
    this.#atEnd = false;
    this.render();
    const { element } = this.#views.get(id);
    element.scrollIntoView({ block: "center" });
    element.tabIndex = -1;
    element.focus({ preventScroll: true });
    element.classList.add("found");
    setTimeout(() => element.classList.remove("found"), 2500);
  }
}

function spoken(news) {
  if (news.length > MOST) return `${news.length} new messages. ${spoken(news.slice(-1))}`;
  return news.map((message) => (message.role === "user" ? asked(message) : replied(message))).join(" ");
}

function asked({ author, text, parts }) {
  const files = parts.length === 1 ? "a file" : `${parts.length} files`;
  return `${author ?? "Somebody"} wrote: ${text === "" ? files : shortened(text)}`;
}

function replied({ status, text, error, model }) {
  if (status === "streaming") return "A reply has begun.";
  if (status === "waiting") return "A tool call waits.";
  if (status === "error") return `The reply failed. ${error?.message ?? ""}`;
  const who = status === "stopped" ? "The reply was stopped." : `${model ?? "The assistant"} replied:`;
  return `${who} ${shortened(text)}`;
}

const shortened = (text) => (text.length > SPOKEN ? `${text.slice(0, SPOKEN)}…` : text);
