/* composer.js: the field in which people write, with its files, and what became of what they sent.
 *
 * Invariants: what somebody has typed stays in the field, and in the browser's storage, until the server has it. While
 * the server cannot be reached, the message waits there and is sent as soon as it can be. What went wrong stands beside
 * the field, and is gone when it is no longer true.
 */
import { attached, LIMITS } from "./attachments.js";
import { element, icon, iconButton, say, show } from "./elements.js";
import { empty, NEW_CHAT } from "./drafts.js";
import { explained, isUnreached } from "./server.js";

const RETRY_MS = 3_000;
const CONFLICT = 409;
const touches = matchMedia("(pointer: coarse)");

export class Composer {
  #drafts;
  #on;
  #part; // elements, by what they are for
  #talk = null;
  #draft = empty();
  #place = NEW_CHAT; // where the draft is kept
  #busy = false; // a request is under way
  #waits = null; // {live, timer} while the message waits for the server: whether there was a connection, the next attempt
  #problem = ""; // of the last attempt
  #notes = []; // about files
  #shownFiles = null;
  #blocked = null; // {seen} if the problem ends with a reply: whether this page has seen the reply

  /** `on.sent(talk)` is called when the server has a message, `on.stop()` to stop the reply. */
  constructor(form, drafts, on) {
    [this.form, this.#drafts, this.#on] = [form, drafts, on];
    this.field = form.querySelector("textarea");
    this.#part = Object.fromEntries(
      ["files", "note", "send", "stop", "attach", "picker"].map((name) => [
        name,
        form.querySelector(`[data-part=${name}]`),
      ]),
    );
    this.#part.attach.title = `Attach files. ${LIMITS}`;
    this.#listen();
    drafts.watch((chat, before) => chat === this.#place && this.#changedElsewhere(before));
  }

  open(talk) {
    this.#rest();
    [this.#talk, this.#place] = [talk, talk.isNew ? NEW_CHAT : talk.id];
    this.#draft = this.#drafts.of(this.#place);
    [this.#problem, this.#notes, this.#busy, this.#blocked] = ["", [], false, null];
    this.field.value = this.#draft.text;
    this.#drawFiles();
    this.#grow();
    this.render();
  }

  /** Puts a text into the field, for people to send. They can undo it, as it replaces what they had typed. */
  suggest(text) {
    this.field.focus();
    this.field.select();
    document.execCommand("insertText", false, text);
  }

  focus() {
    if (!touches.matches) this.field.focus();
  }

  /** Called when the chat or the connection has changed. */
  render() {
    const { status } = this.#talk?.view ?? { status: "loading" },
      streaming = status === "streaming";
    if (this.#draft.sent && this.#talk?.has(this.#draft.id)) this.#accepted(); // before a reload, or by an answer that was lost
    if (this.#waits !== null && !this.#waits.live && this.#isLive && !this.#busy) void this.#send();
    if (this.#blocked?.seen && !streaming) [this.#blocked, this.#problem] = [null, ""];
    if (this.#blocked !== null && streaming) this.#blocked.seen = true;
    const empty = this.field.value.trim() === "" && this.#draft.files.length === 0;
    show(this.#part.stop, streaming);
    show(this.#part.send, !streaming || !empty);
    this.#part.send.disabled = empty || this.#busy || status === "loading" || status === "missing";
    this.form.ariaBusy = String(this.#busy);
    this.field.disabled = status === "missing";
    this.#drawNote();
  }

  get #isLive() {
    return navigator.onLine && this.#talk.health.phase === "live";
  }

  #drawNote() {
    const { note } = this.#part,
      waits = this.#waits !== null,
      text = [this.#problem, ...this.#notes].filter(Boolean).join(" ");
    show(note, text !== "");
    if (note.dataset.text === `${text}${waits}`) return;
    note.dataset.text = `${text}${waits}`;
    const keep = element(
      "button",
      { type: "button", className: "quiet-button", onclick: () => this.#dontSend() },
      "Don’t send",
    );
    note.replaceChildren(
      ...(text === "" ? [] : [icon("warning"), element("span", {}, text), ...(waits ? [keep] : [])]),
    );
  }

  #listen() {
    const { form, field } = this,
      { attach, picker, stop } = this.#part;
    form.addEventListener("submit", (event) => (event.preventDefault(), void this.#submit()));
    field.addEventListener("input", () => this.#typed());
    field.addEventListener("blur", () => this.#talk?.setTyping(false));
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || touches.matches) return;
      event.preventDefault();
      void this.#submit();
    });
    field.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      void this.attach(files);
    });
    attach.addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      void this.attach([...picker.files]);
      picker.value = "";
    });
    stop.addEventListener("click", () => this.#on.stop());
  }

  /** Adds files to the message. */
  async attach(given) {
    const talk = this.#talk,
      { files, problems } = await attached(given, this.#draft.files);
    if (talk !== this.#talk) return;
    this.#notes = problems;
    this.#change({ files: [...this.#draft.files, ...files] });
    this.field.focus();
  }

  #typed() {
    this.#change({ text: this.field.value });
    this.#grow();
    this.#talk?.setTyping(this.field.value !== "");
  }

  /** A message that was sent and is then changed is another one. */
  #change(what) {
    const { id, sent, ...rest } = this.#draft;
    this.#rest();
    this.#draft = { ...(sent ? empty() : { id, sent }), ...rest, ...what };
    [this.#blocked, this.#problem] = [null, ""];
    if (what.files === undefined) this.#notes = [];
    this.#drafts.keep(this.#place, this.#draft);
    this.#drawFiles();
    this.render();
  }

  /** Another window had the same draft, and has sent or dropped it. What was typed here only stays. */
  #changedElsewhere(before) {
    const stored = this.#drafts.of(this.#place);
    const gone = stored.text === "" && stored.files.length === 0 && document.activeElement !== this.field;
    if (gone && !this.#busy && before?.text === this.field.value) this.#accepted();
    this.render();
  }

  #drawFiles() {
    const { files } = this.#part;
    if (this.#draft.files === this.#shownFiles) return;
    this.#shownFiles = this.#draft.files;
    show(files, this.#draft.files.length > 0);
    files.replaceChildren(...this.#draft.files.map((file) => this.#chip(file)));
  }

  #chip(file) {
    const remove = iconButton("close", `Remove ${file.filename}`, () => {
      this.#change({ files: this.#draft.files.filter((each) => each !== file) });
      this.field.focus();
    });
    const face = file.mediaType.startsWith("image/") ? element("img", { src: file.url, alt: "" }) : icon("file");
    return element("li", { className: "chip" }, face, element("bdi", {}, file.filename), remove);
  }

  /** Browsers that know `field-sizing` do this themselves. */
  #grow() {
    if (CSS.supports("field-sizing", "content")) return;
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }

  async #submit() {
    const text = this.field.value.trim();
    if (this.#talk === null || (text === "" && this.#draft.files.length === 0) || this.#busy) return;
    const { status } = this.#talk.view;
    if (status === "loading" || status === "missing") return;
    if (status === "streaming") {
      [this.#blocked, this.#problem] = [
        { seen: true },
        "A reply is in progress. Send this when it has ended, or stop the reply.",
      ];
      return this.render();
    }
    this.#talk.setTyping(false);
    await this.#send();
  }

  async #send() {
    const talk = this.#talk,
      place = this.#place;
    clearTimeout(this.#waits?.timer);
    this.#draft = { ...this.#draft, text: this.field.value, sent: true, chat: talk.id };
    const draft = this.#draft,
      message = { ...draft, text: draft.text.trim() };
    this.#drafts.keep(place, draft); // before it is sent: it may arrive, and the answer be lost
    this.#busy = true;
    this.render();
    try {
      await talk.send(message);
      if (talk !== this.#talk) this.#drafts.drop(place);
      else if (draft.id === this.#draft.id) this.#accepted();
      this.#on.sent(talk);
    } catch (error) {
      if (talk === this.#talk && draft.id === this.#draft.id) this.#failed(error);
    } finally {
      if (talk === this.#talk) {
        this.#busy = false;
        this.render();
      }
    }
  }

  #accepted() {
    this.#rest();
    this.#drafts.drop(this.#place);
    [this.#draft, this.#place] = [empty(), this.#talk.id];
    this.field.value = "";
    [this.#problem, this.#notes] = ["", []];
    this.#drawFiles();
    this.#grow();
  }

  #failed(error) {
    this.#rest();
    if (!isUnreached(error)) {
      this.#blocked = error.status === CONFLICT ? { seen: false } : null; // perhaps with a reply that is in progress
      this.#problem = explained(error);
      return;
    }
    const why = !navigator.onLine ? "You are offline." : error.status ? explained(error) : "The server does not answer.";
    this.#problem = `${why} Your message is kept here, and is sent as soon as it can be.`;
    this.#waits = { live: this.#isLive, timer: setTimeout(() => void this.#send(), error.retryAfter ?? RETRY_MS) };
  }

  #rest() {
    clearTimeout(this.#waits?.timer);
    this.#waits = null;
  }

  #dontSend() {
    this.#rest();
    this.#problem = "";
    this.render();
    this.field.focus();
  }
}
