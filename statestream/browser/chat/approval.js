/* approval.js: a tool call that waits for approval: what it would do, and what people can do about it.
 *
 * Invariants: the arguments that are shown are those that are approved. What somebody has typed stays until the call is
 * decided. The server tells whoever comes second.
 */
import { element, say, show } from "./elements.js";

const INVALID = "The arguments must be an object in JSON.";
const LARGE = "Numbers of more than 15 digits cannot be changed here."; // JavaScript would round them
const LARGE_NUMBER = /(?<![\w".])-?\d{16,}/;

export class Approval {
  #decide;
  #id = null;
  #given = "";
  #needs = element("p", { className: "hint" });
  #field = element("textarea", { rows: 3, spellcheck: false, ariaLabel: "Arguments", dir: "auto", hidden: true });
  #problem = element("p", { className: "problem", role: "alert", hidden: true });
  #change = element(
    "button",
    { type: "button", className: "quiet-button", onclick: () => this.#edit() },
    "Change arguments",
  );
  #approve = element("button", { type: "button", className: "main", onclick: () => this.#approved() }, "Approve");
  #deny = element(
    "button",
    { type: "button", className: "quiet-button", onclick: () => this.#decide(this.#id, false) },
    "Deny",
  );
  element = element(
    "div",
    { className: "approval", role: "group", ariaLabel: "Approval" },
    this.#field,
    this.#problem,
    this.#needs,
    element("div", { className: "row" }, this.#change, this.#deny, this.#approve),
  );

  /** `decide(id, approved, arguments?)` tells the server. */
  constructor(decide) {
    this.#decide = decide;
  }

  update({ approval, arguments: given }) {
    [this.#id, this.#given] = [approval.id, given];
    const { role, expires_at: until } = approval;
    const facts = [
      role && `Only people with the role ${role} can decide.`,
      until && `The reply ends at ${new Date(until).toLocaleTimeString()} if nobody does.`,
    ];
    say(this.#needs, facts.filter(Boolean).join(" "));
    show(this.#needs, facts.some(Boolean));
  }

  #edit() {
    this.#field.value = pretty(this.#given);
    show(this.#field, true);
    show(this.#change, false);
    this.#field.focus();
  }

  #approved() {
    if (this.#field.hidden) return this.#decide(this.#id, true);
    const { value } = this.#field,
      edited = objectIn(value),
      wrong = edited === null ? INVALID : LARGE_NUMBER.test(value) ? LARGE : "";
    say(this.#problem, wrong);
    show(this.#problem, wrong !== "");
    if (wrong) this.#field.focus();
    else this.#decide(this.#id, true, edited);
  }
}

function objectIn(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function pretty(json) {
  try {
    if (LARGE_NUMBER.test(json)) return json;
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
