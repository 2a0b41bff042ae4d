/* details.js: what one change was, and the differences between two moments.
 *
 * Invariants: a state of the past is asked for once for each entry, and an answer that comes too late is dropped. The
 * difference to now is computed a few times a second at most, however fast the state changes.
 */
import { diff } from "./diff.js";
import { bytesOf, indented, moment, plural, preview, size, visible } from "./format.js";
import { bytesOfEntry } from "./log.js";
import { pointerOf } from "./pointer.js";
import { made, say } from "./rows.js";

const AGAIN_MS = 400;
const SIGNS = { added: "+", removed: "−", changed: "~" };

/** The tab "Change". */
export class Change {
  #element;
  #shown = null;

  constructor(element) {
    this.#element = element;
  }

  render({ selected: entry, pin }) {
    const buttons = this.#element.querySelectorAll("button");
    for (const button of buttons) button.disabled = entry === null;
    say(this.#element.querySelector("[name=pin]"), pin !== null && pin.entry === entry ? "Unpin" : "Pin");
    if (entry === this.#shown) return;
    this.#shown = entry;
    const [facts, content] = this.#element.querySelectorAll("dl, .content");
    const { cause } = entry ?? {};
    this.#element.querySelector(".empty").hidden = entry !== null;
    if (entry === null) return void (facts.replaceChildren(), content.replaceChildren());
    const told = [
      ["Action", cause?.type ?? "none: a whole state, or several actions at once"],
      ["Slice", entry.slice],
      ["Actor", cause?.actor],
      ["Time", moment(entry.timestamp)],
      ["Position", entry.position],
      ["Version", entry.kind === "initial" ? undefined : `${entry.from} → ${entry.version}`],
      ["Size", entry.kind === "initial" ? undefined : `${size(bytesOfEntry(entry))}${cause?.payload ? `, payload ${size(bytesOf(cause.payload))}` : ""}`],
      ["Request", cause?.id],
      ["Reason", entry.reason],
    ];
    facts.replaceChildren(...told.filter(([, text]) => text).flatMap(([name, text]) => [made("dt", { textContent: name }), made("dd", { textContent: visible(text) })]));
    content.replaceChildren(...this.#parts(entry));
  }

  #parts({ kind, patches, value, cause }) {
    const parts = cause?.payload ? [titled("Payload", cause.payload)] : [];
    if (kind === "value") parts.push(titled("New value", value));
    if (kind === "patches") parts.push(titled("Patch", patches));
    return parts;
  }
}

const titled = (title, value) =>
  made("section", {}, made("h2", { textContent: title }), made("pre", { tabIndex: 0, ariaLabel: title, role: "region", textContent: indented(value) }));

/** The tab "Diff": what an action changed, or how a moment differs from now, or from the pinned one. */
export class Difference {
  #element;
  #model;
  #onChange;
  #key = null; // what is shown, or being asked for
  #sides = null;
  #drawn = null;
  #next = 0;
  #timer = null;

  constructor(element, model, onChange) {
    [this.#element, this.#model, this.#onChange] = [element, model, onChange];
    element.addEventListener("change", onChange);
  }

  get #mode() {
    return this.#element.querySelector("input:checked").value;
  }

  render() {
    const { past, pin, selected } = this.#model, entry = past?.entry ?? selected, mode = this.#mode;
    const key = [mode, entry?.position, entry?.number, past?.position, pin?.position].join(" ");
    if (key !== this.#key) {
      [this.#key, this.#sides, this.#next] = [key, null, 0];
      void this.#ask(key, mode, entry);
    }
    if (this.#sides === null) return;
    const now = performance.now(), [before, after] = this.#sides();
    if (this.#drawn?.before === before && this.#drawn.after === after && this.#drawn.key === key) return;
    if (now < this.#next) {
      this.#timer ??= setTimeout(() => ((this.#timer = null), this.#onChange()), this.#next - now);
      return;
    }
    this.#drawn = { key, before, after };
    this.#show(diff(before, after));
    this.#next = performance.now() + AGAIN_MS; // after the work, so there is a pause however long that took
  }

  /** Finds out what is to be compared. */
  async #ask(key, mode, entry) {
    try {
      const sides = await this.#compared(mode, entry);
      if (key !== this.#key) return;
      this.#sides = sides;
      if (sides === null) this.#explain({ pin: "Pin a change first.", action: "Select a change in the log.", now: "Select a change in the log, or move the slider into the past." }[mode]);
    } catch (error) {
      if (key === this.#key) this.#explain(`These states cannot be compared: ${error.message}`);
    }
    this.#onChange();
  }

  /** A function that returns both sides; null if one is missing. */
  async #compared(mode, entry) {
    const model = this.#model, { pin, past } = model;
    if (mode === "pin") return pin === null ? null : () => [pin.state, model.state];
    if (entry === null) return null;
    if (mode === "action") {
      const [before, { state: after }] = await Promise.all([model.stateBefore(entry), model.stateAfter(entry)]);
      return () => [before, after];
    }
    const state = past?.entry === entry ? past.state : (await model.stateAfter(entry)).state;
    return () => [state, model.now];
  }

  #explain(text) {
    this.#element.querySelector(".found").replaceChildren();
    say(this.#element.querySelector("[role=status]"), text);
    this.#drawn = null;
  }

  #show({ found, more }) {
    say(this.#element.querySelector("[role=status]"), found.length ? plural(found.length, "difference", more) : "No difference");
    this.#element.querySelector(".found").replaceChildren(...found.map(rowOf));
  }
}

function rowOf({ segments: [slice, ...rest], kind, before, after }) {
  const row = made("li", { className: kind }, made("span", { className: "sign", textContent: SIGNS[kind], title: kind }));
  row.append(made("span", { className: "path", textContent: visible(`${slice ?? ""} ${pointerOf(rest)}`) }));
  if (kind !== "added") row.append(made("del", { textContent: preview(before, 400) }));
  if (kind !== "removed") row.append(made("ins", { textContent: preview(after, 400) }));
  return row;
}
