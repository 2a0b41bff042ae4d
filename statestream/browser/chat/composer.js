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
const MAX_TEXT = 100_000; // characters that the server accepts
const FULL = "The browser has no room to store this. It is kept only while this page is open.";
const READING = "Reading the files…";
const CONFLICT = 409;
const touches = matchMedia("(pointer: coarse)");

/** The server counts characters as people do, where JavaScript counts some of them twice. */
const sizeOf = (text) => (text.length > MAX_TEXT ? [...text].length : text.length);

export class Composer {
  #drafts;
  #on;
  #part; // elements, by what they are for
  #talk = null;
  #draft = empty();
  #place = NEW_CHAT; // where the draft is kept
  #busy = false; // a request is under way
  #sending = null; // the draft that the request has, or had without an answer
  #reading = Promise.resolve(); // ends when the files that were attached are read
  #reads = 0; // how many times people have attached files that are not read yet
  #stored = true; // whether the draft outlives the page
  #waits = null; // {live, timer} while the message waits: whether there was a connection; the next attempt
  #problem = ""; // of the last attempt
  #notes = []; // about files
  #shownFiles = null;
  #blocked = null; // {seen} if the problem ends with a reply: whether this page has seen the reply

  /** `on.sent(talk)` is called when the server has a message that was sent now, `on.accepted()` when it has the draft,
   * and `on.stop()` to stop the reply. */
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
    const typed = this.#talk === null ? { text: this.field.value, files: this.#draft.files } : { text: "", files: [] };
    this.#rest();
    [this.#talk, this.#place] = [talk, talk.isNew ? NEW_CHAT : talk.id];
    this.#draft = this.#drafts.of(this.#place);
    [this.#problem, this.#notes, this.#busy, this.#blocked, this.#sending] = ["", [], false, null, null];
    this.#stored = true;
    this.#carry(typed);
    if (this.field.value !== this.#draft.text) this.field.value = this.#draft.text;
    if (this.#draft.waits) this.#wait("This message has not been sent.", { live: false });
    this.#drawFiles();
    this.#grow();
    this.render();
  }

  /** What was typed before any chat was open belongs to this one. */
  #carry({ text, files }) {
    const { text: before } = this.#draft;
    if (files.length === 0 && (text === "" || text === before)) return; // browsers fill fields in after a reload
    this.#change({
      text: [before, text].filter(Boolean).join("\n"),
      files: [...this.#draft.files, ...files],
    });
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
      streaming = status === "streaming" || status === "waiting";
    this.#recognize();
    if (this.#waits !== null && !this.#waits.live && this.#isLive && !this.#busy) void this.#send();
    if (this.#blocked?.seen && !streaming) [this.#blocked, this.#problem] = [null, ""];
    if (this.#blocked !== null && streaming) this.#blocked.seen = true;
    const empty = this.field.value.trim() === "" && this.#draft.files.length === 0 && this.#reads === 0;
    show(this.#part.stop, streaming);
    show(this.#part.send, !streaming || !empty);
    this.#part.send.disabled = empty || this.#busy || status === "loading" || status === "missing";
    this.form.ariaBusy = String(this.#busy);
    this.field.disabled = status === "missing";
    this.#drawNote();
  }

  /** The server may have a message whose answer was lost, perhaps before a reload, or one that another window sent. */
  #recognize() {
    if (this.#talk === null) return;
    for (const sent of [this.#draft, this.#sending])
      if (sent !== null && this.#talk.has(sent.id)) return this.#accepted(sent);
  }

  get #isLive() {
    return navigator.onLine && this.#talk.health.phase === "live";
  }

  #drawNote() {
    const { note } = this.#part,
      waits = this.#waits !== null,
      length = sizeOf(this.field.value.trim()),
      facts = [
        length > MAX_TEXT && `A message has at most 100,000 characters. This one has ${length.toLocaleString("en")}.`,
        this.#reads > 0 && READING,
        !this.#stored && FULL,
      ],
      text = [this.#problem, ...this.#notes, ...facts].filter(Boolean).join(" ");
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

  /** Adds files to the message, after those that are being read. */
  attach(given) {
    this.#reads += 1;
    this.#reading = this.#reading.then(() => this.#attach(given)).finally(() => {
      this.#reads -= 1;
      this.render();
    });
    this.render();
    return this.#reading;
  }

  async #attach(given) {
    const talk = this.#talk,
      { files, problems } = await attached(given, this.#draft.files);
    if (talk !== this.#talk && talk !== null) return;
    this.#change({ files: [...this.#draft.files, ...files] });
    this.#notes = [...this.#notes, ...problems];
    this.field.focus();
  }

  #typed() {
    this.#change({ text: this.field.value });
    this.#grow();
    this.#talk?.setTyping(this.field.value !== "");
  }

  /** A changed draft is another message: the earlier one may have been sent, perhaps by another window. */
  #change(what) {
    const { text, files, chat } = this.#draft;
    this.#rest();
    this.#draft = { ...empty(), text, files, chat, ...what };
    [this.#blocked, this.#problem] = [null, ""];
    if (what.files === undefined) this.#notes = [];
    this.#keep();
    this.#drawFiles();
    this.render();
  }

  /** Until a chat is open, nobody knows where the draft belongs. */
  #keep() {
    if (this.#talk !== null) this.#stored = this.#drafts.keep(this.#place, this.#draft);
  }

  /** Another window had the same draft, and has sent or dropped it. What was typed here only stays. */
  #changedElsewhere(before) {
    const stored = this.#drafts.of(this.#place);
    const gone = stored.text === "" && stored.files.length === 0 && document.activeElement !== this.field;
    if (gone && !this.#busy && before?.text === this.field.value) this.#clear(this.#draft);
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
    const talk = this.#talk;
    if (this.#reads > 0) await this.#reading; // they belong to the message
    const text = this.field.value.trim();
    if (talk === null || talk !== this.#talk || this.#busy || sizeOf(text) > MAX_TEXT) return;
    if (text === "" && this.#draft.files.length === 0) return;
    const { status } = talk.view;
    if (status === "loading" || status === "missing") return;
    if (status === "streaming") {
      [this.#blocked, this.#problem] = [
        { seen: true },
        "A reply is in progress. Send this when it has ended, or stop the reply.",
      ];
      return this.render();
    }
    talk.setTyping(false);
    await this.#send();
  }

  async #send() {
    const talk = this.#talk,
      place = this.#place;
    clearTimeout(this.#waits?.timer);
    const draft = { ...this.#draft, text: this.field.value, sent: true, chat: talk.id };
    this.#draft = this.#sending = draft;
    this.#keep(); // before it is sent: it may arrive, and the answer be lost
    this.#busy = true;
    this.render();
    try {
      await talk.send({ ...draft, text: draft.text.trim() });
      if (talk !== this.#talk) this.#drafts.drop(place, draft.id);
      else if (draft === this.#sending) this.#accepted(draft);
      this.#on.sent(talk);
    } catch (error) {
      if (talk === this.#talk && draft.id === this.#draft.id) this.#failed(error);
      else if (talk !== this.#talk && isUnreached(error) && this.#drafts.of(place).id === draft.id)
        this.#drafts.keep(place, { ...draft, waits: true });
    } finally {
      if (talk === this.#talk) {
        this.#busy = false;
        this.render();
      }
    }
  }

  /** The server has that message. */
  #accepted(sent) {
    this.#on.accepted();
    this.#clear(sent);
  }

  /** Ends that draft. What was added to the field since it was sent stays, as the next one. */
  #clear(sent) {
    const { id, files } = this.#draft,
      { value, selectionStart } = this.field;
    const same = id === sent.id,
      more = !same && value.startsWith(sent.text) ? value.slice(sent.text.length).trimStart() : value;
    this.#rest();
    this.#drafts.drop(this.#place, id);
    this.#drafts.drop(this.#place, sent.id);
    [this.#place, this.#sending, this.#stored] = [this.#talk.id, null, true];
    this.#draft = same
      ? empty()
      : { ...empty(), text: more, files: files.filter((file) => !sent.files.includes(file)) };
    if (!same) this.#keep();
    if (value !== this.#draft.text) {
      this.field.value = this.#draft.text;
      this.field.selectionEnd = Math.max(0, selectionStart - (value.length - this.#draft.text.length));
    }
    [this.#problem, this.#notes] = ["", []];
    this.#drawFiles();
    this.#grow();
  }

  #failed(error) {
    this.#rest();
    if (!isUnreached(error)) {
      this.#draft = { ...this.#draft, waits: false };
      this.#keep();
      this.#blocked = error.status === CONFLICT ? { seen: false } : null; // perhaps with a reply that is in progress
      this.#problem = explained(error);
      return;
    }
    this.#wait(
      !navigator.onLine ? "You are offline." : error.status ? explained(error) : "The server does not answer.",
      { pause: error.retryAfter },
    );
  }

  /** Keeps the message to be sent later, even if people look at other chats meanwhile. */
  #wait(why, { pause = RETRY_MS, live = this.#isLive }) {
    this.#draft = { ...this.#draft, waits: true };
    this.#keep();
    this.#problem = `${why} Your message is kept here, and is sent as soon as it can be.`;
    this.#waits = { live, timer: setTimeout(() => void this.#send(), pause) };
  }

  #rest() {
    clearTimeout(this.#waits?.timer);
    this.#waits = null;
  }

  #dontSend() {
    this.#rest();
    this.#draft = { ...this.#draft, waits: false };
    this.#keep();
    this.#problem = "";
    this.render();
    this.field.focus();
  }
}
