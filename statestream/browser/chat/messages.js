/* messages.js: the messages of a chat as a list that people scroll.
 *
 * Only the end of a long chat is drawn at first; going up draws more, and asks the server for what is no longer live.
 *
 * Invariants: the page scrolls by itself only while the reader is at the end. Nothing moves under the eyes of somebody
 * who reads further up. A screen reader is told of a reply once, when it is complete.
 */
import { arrange, say, show } from "./elements.js";
import { MessageView, controlOf } from "./message.js";
import { explained } from "./server.js";

const FIRST = 30; // messages that are drawn when a chat is opened
const MORE = 40;
const NEAR = 500; // pixels
const AT_END = 48; // pixels from the end that count as the end
const SPOKEN = 600; // characters

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
  #newest; // {id, status} of the last message when it was drawn last; null if there was none, undefined before
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
    [this.#first, this.#newest, this.#atEnd, this.#shown] = [null, undefined, true, []];
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
    show(this.#part.more, start > 0 || this.#talk.hasEarlier);
    if (this.#fresh.length > 0) this.#settle();
    this.#speak(all.at(-1));
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

  /** Says what has just become complete, to screen readers. */
  #speak(last) {
    const before = this.#newest;
    this.#newest = last === undefined ? null : { id: last.id, status: last.status };
    if (last === undefined || before === undefined || last.role !== "assistant") return;
    if (last.status === "waiting") {
      if (before?.id !== last.id || before.status !== "waiting") say(this.#part.live, "A tool needs approval.");
    } else if (last.status === "streaming") {
      if (before?.id !== last.id) say(this.#part.live, "A reply has begun.");
    } else if (before?.status === "streaming" && before.id === last.id) say(this.#part.live, spoken(last));
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
      if (at < MORE && talk.hasEarlier) await talk.loadEarlier();
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
      talk.hasEarlier &&
      talk.messages.length > was;
    ) {
      was = talk.messages.length;
      await talk.loadEarlier();
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

function spoken({ status, text, error, model }) {
  const said = text.length > SPOKEN ? `${text.slice(0, SPOKEN)}…` : text;
  if (status === "error") return `The reply failed. ${error?.message ?? ""}`;
  return status === "stopped" ? `The reply was stopped. ${said}` : `${model ?? "The assistant"} replied: ${said}`;
}
