/* message.js: one message: who wrote it, its parts, what became of it, and what people can do with it.
 *
 * Invariants: it draws only what has changed. What somebody has typed to change a message is kept until the server has
 * it. What went wrong is said here, beside the message that it concerns.
 */
import { copy, element, icon, iconButton, say, show } from "./elements.js";
import { avatarOf, nameOf } from "./names.js";
import { partView } from "./parts.js";
import { explained } from "./server.js";
import { timeOf } from "./times.js";

/** What a control is for, so that it can be found again in another version of the message. */
export const controlOf = (focused) => focused.dataset.control ?? (focused.closest(".editor") ? "edit" : "again");

const FLIPS = ["back", "next"];
const FALLBACK = "The reply failed.";
const CUT_OFF = ["truncated", "interrupted", "timeout", "connection"]; // errors after which a reply can continue

const named = (control) => ({ data: { control } });

export class MessageView {
  #desk;
  #drafts;
  #chat;
  #parts = []; // {type, view}
  #message = null;
  #said = "";
  #working = false;
  #editor = null;
  #content = element("div", { className: "content" });
  #outcome = element("div", { className: "outcome" });
  #problem = element("p", { className: "problem", role: "alert", hidden: true });
  #bar = element("div", { className: "bar" });
  #doing = element("span", { dir: "auto" }); // what an agent says that it is doing
  #dots = element(
    "p",
    { className: "dots", ariaLabel: "The reply is on its way" },
    element("i"),
    element("i"),
    element("i"),
    this.#doing,
  );

  /** `mine`: whether the person of this page wrote it. `drafts` keeps changes to it. */
  constructor(message, { desk, drafts, chat, mine }) {
    [this.#desk, this.#drafts, this.#chat, this.mine, this.id] = [desk, drafts, chat, mine, message.id];
    const { role, author, model } = message,
      isReply = role === "assistant";
    const who = isReply ? (model ?? "assistant") : (author ?? "somebody");
    const said = element(
      "h3",
      { className: "who" },
      isReply ? element("bdi", {}, who) : nameOf(who),
      element("span", { className: "hidden-label" }, isReply ? " replied" : mine ? " (you) wrote" : " wrote"),
    );
    const face = isReply ? element("span", { className: "avatar model", ariaHidden: "true" }) : avatarOf(who);
    const body = element("div", { className: "body" }, said, this.#content, this.#outcome, this.#problem, this.#bar);
    this.element = element(
      "li",
      { className: `message fresh ${role} ${mine ? "mine" : ""}`, data: { id: message.id } },
      face,
      body,
    );
    this.#content.append(this.#dots);
  }

  update(message, isLast) {
    if (message === this.#message && this.element.classList.contains("last") === isLast) return;
    this.#message = message;
    const { role, status, parts, run } = message,
      over = status !== "streaming",
      waits = status === "waiting";
    this.element.classList.toggle("last", isLast);
    for (const name of ["streaming", "waiting", "stopped", "error"]) this.element.classList.toggle(name, status === name);
    parts.forEach((part, at) => this.#show(part, at, role, over || at < parts.length - 1, waits));
    for (const { view } of this.#parts.splice(parts.length)) view.element.remove();
    say(this.#doing, run?.status ?? "");
    show(
      this.#dots,
      !over && (run?.status !== undefined || parts.every(({ type, text }) => type === "text" && text === "")),
    );
    this.#drawOutcome();
    this.#drawBar();
    if (this.#editor === null && role === "user" && this.#drafts.editOf(this.#chat, this.id) !== null)
      this.#edit(false);
  }

  #show(part, at, role, over, waits) {
    const before = this.#parts[at];
    if (before?.part === part && before.over === over && before.waits === waits) return;
    const view = before?.part.type === part.type ? before.view : partView(part, role, this.#decide);
    if (view !== before?.view) {
      if (before) before.view.element.replaceWith(view.element);
      else this.#content.insertBefore(view.element, this.#dots);
    }
    view.update(part, over, waits);
    this.#parts[at] = { part, view, over, waits };
  }

  #decide = (id, approved, given) =>
    void this.#do(() => this.#desk.decide(id, approved, given && { arguments: given }));

  #drawOutcome() {
    const { status, error, finish_reason, parts } = this.#message,
      isTooLong = status === "complete" && finish_reason === "length";
    const text =
      status === "error"
        ? (error?.message ?? FALLBACK)
        : status === "stopped"
          ? "This reply was stopped."
          : isTooLong
            ? "This reply has reached its maximum length."
            : "";
    const isCutOff = status === "stopped" || isTooLong || CUT_OFF.includes(error?.kind);
    if (this.#outcome.dataset.text === text) return;
    this.#outcome.dataset.text = text;
    const retry = element(
      "button",
      { type: "button", className: "retry", onclick: () => void this.#do(() => this.#desk.regenerate(this.id)) },
      icon("again"),
      "Try again",
    );
    const carryOn = element(
      "button",
      { type: "button", className: "retry", onclick: () => void this.#do(() => this.#desk.carryOn(this.id)) },
      icon("right"),
      "Continue",
    );
    const buttons = isCutOff && parts.length > 0 ? [carryOn, retry] : [retry];
    this.#outcome.replaceChildren(
      ...(text === "" ? [] : [icon(status === "error" ? "warning" : "stop"), element("span", {}, text), ...buttons]),
    );
  }

  #drawBar() {
    const { role, status, siblings, updated_at, text } = this.#message,
      state = [status, siblings, text === ""].join();
    if (this.#said === state) return;
    this.#said = state;
    const focused = this.#bar.contains(document.activeElement) ? controlOf(document.activeElement) : null;
    const buttons = [];
    const copying = iconButton("copy", "Copy", () => void copy(this.#message.text, copying), named("copy"));
    if (text !== "") buttons.push(copying);
    if (status !== "streaming" && status !== "waiting" && role === "assistant")
      buttons.push(
        iconButton(
          "again",
          "Answer again",
          () => void this.#do(() => this.#desk.regenerate(this.id)),
          named("again"),
        ),
      );
    if (role === "user")
      buttons.push(iconButton("edit", "Change this message", () => this.#edit(true), named("edit")));
    if (siblings.length > 1) buttons.unshift(this.#flipper(siblings));
    const when = element(
      "time",
      { dateTime: new Date(updated_at).toISOString(), className: "when" },
      timeOf(updated_at),
    );
    this.#bar.replaceChildren(...(status === "streaming" ? [] : [...buttons, when]));
    if (focused !== null) this.focus(focused);
  }

  /** Gives the focus to a control, as named by `controlOf`. Returns whether it has one. */
  focus(control) {
    const found = this.#bar.querySelector(`[data-control=${control}]:not(:disabled)`);
    const near = found ?? (FLIPS.includes(control) && this.#bar.querySelector(".flipper button:not(:disabled)"));
    if (near) near.focus();
    return Boolean(near);
  }

  #flipper(siblings) {
    const at = siblings.indexOf(this.id),
      count = `${at + 1} / ${siblings.length}`;
    const to = (other) => () => void this.#do(() => this.#desk.branch(siblings[other]));
    const back = iconButton("left", "The version before", to(at - 1), {
      disabled: at === 0,
      data: { flip: "back", control: "back" },
    });
    const next = iconButton("right", "The next version", to(at + 1), {
      disabled: at === siblings.length - 1,
      data: { flip: "next", control: "next" },
    });
    return element(
      "span",
      { className: "flipper", role: "group", ariaLabel: `Version ${at + 1} of ${siblings.length}` },
      back,
      element("span", {}, count),
      next,
    );
  }

  /** Does something that the server may refuse. Returns whether it worked. */
  async #do(work) {
    if (this.#working) return false;
    this.#working = true;
    this.element.ariaBusy = "true";
    show(this.#problem, false);
    try {
      await work();
      return true;
    } catch (error) {
      say(this.#problem, explained(error));
      show(this.#problem, true);
      return false;
    } finally {
      this.#working = false;
      this.element.ariaBusy = "false";
    }
  }

  /** What went wrong is no longer of interest, as the chat has changed. */
  forget() {
    show(this.#problem, false);
  }

  #edit(focus) {
    if (this.#editor !== null) return;
    const { text } = this.#message,
      field = element("textarea", {
        value: this.#drafts.editOf(this.#chat, this.id) ?? text,
        rows: 3,
        ariaLabel: "Your message",
        dir: "auto",
      });
    const keys = (event) => {
      if (event.key === "Escape" && !event.isComposing) (event.stopPropagation(), this.#endEdit());
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing)
        (event.preventDefault(), form.requestSubmit());
    };
    field.addEventListener("input", () => this.#drafts.keepEdit(this.#chat, this.id, field.value));
    field.addEventListener("keydown", keys);
    const cancel = element(
      "button",
      { type: "button", className: "quiet-button", onclick: () => this.#endEdit() },
      "Cancel",
    );
    const form = element(
      "form",
      { className: "editor" },
      field,
      element("p", { className: "hint" }, "Sending this begins another branch. The one before stays."),
      element("div", { className: "row" }, cancel, element("button", { className: "main" }, "Send")),
    );
    form.addEventListener("submit", (event) => (event.preventDefault(), void this.#sendEdit(field)));
    this.#editor = form;
    this.element.classList.add("editing");
    this.#content.after(form);
    if (focus) field.focus();
  }

  #endEdit() {
    this.#drafts.keepEdit(this.#chat, this.id, null);
    this.#editor?.remove();
    this.#editor = null;
    this.element.classList.remove("editing");
    show(this.#problem, false);
    this.#bar.querySelector("[title='Change this message']")?.focus();
  }

  /** What is typed while it is under way would be lost, so nothing can be. */
  async #sendEdit(field) {
    const text = field.value.trim(),
      { parts, text: before } = this.#message,
      files = parts.filter(({ type }) => type !== "text");
    if (text === before || (text === "" && files.length === 0)) return this.#endEdit();
    const content = [...files, ...(text === "" ? [] : [{ type: "text", text }])];
    field.readOnly = true;
    if (await this.#do(() => this.#desk.edit(this.id, content))) this.#endEdit();
    field.readOnly = false;
  }
}
