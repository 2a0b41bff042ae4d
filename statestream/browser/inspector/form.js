/* form.js: a form for each action, made from the schema of its payload.
 *
 * Invariants: an optional field that is empty is left out, so the handler's own default counts. What is sent can be seen
 * before, as JSON, and changed there. The answer of the server, or its refusal, is shown below.
 */
import { indented, visible } from "./format.js";
import { made, say } from "./rows.js";
import { actionsOf } from "./schema.js";

export class Form {
  #element;
  #model;
  #actions = new Map();
  #asked = false;
  #fields = []; // readers of the fields: {name, read()}

  constructor(element, model) {
    [this.#element, this.#model] = [element, model];
    this.#part("action").addEventListener("change", () => this.#choose());
    this.#part("fields").addEventListener("input", () => this.#compose());
    element.addEventListener("submit", (event) => (event.preventDefault(), void this.#send()));
  }

  #part = (name) => this.#element.querySelector(`[data-part=${name}]`);

  /** Asks for the schema when the form is first shown. */
  render() {
    if (this.#asked) return;
    this.#asked = true;
    void this.#load();
  }

  async #load() {
    try {
      const found = actionsOf(await this.#model.server.json("openapi.json"));
      this.#actions = new Map(found.map((each) => [each.type, each]));
      const options = found.map(({ type }) => made("option", { value: type, textContent: visible(type) }));
      this.#part("action").replaceChildren(...options);
      say(this.#part("outcome"), found.length ? "" : "There is no action that you may know.");
      this.#choose();
    } catch (error) {
      this.#asked = false;
      say(this.#part("outcome"), `The actions cannot be read: ${error.message}`);
    }
  }

  /** Fills in what an action of the log has sent. */
  repeat({ cause, slice }) {
    if (!this.#actions.has(cause?.type)) return;
    this.#part("action").value = cause.type;
    this.#choose();
    if (slice.includes("/")) this.#part("key").value = slice.slice(slice.indexOf("/") + 1);
    this.#part("payload").value = JSON.stringify(cause.payload ?? {}, null, 2);
  }

  #choose() {
    const action = this.#actions.get(this.#part("action").value);
    this.#part("rest").hidden = action === undefined;
    if (action === undefined) return;
    say(this.#part("about"), visible(action.description, "\n"));
    this.#part("key").parentElement.hidden = !action.keyed;
    this.#part("key").required = action.keyed;
    this.#fields = action.fields.map((field, at) => control(field, `field-${at}`));
    this.#part("fields").replaceChildren(...this.#fields.map(({ element }) => element));
    say(this.#part("problem"), "");
    this.#part("payload").value = this.#composed().text;
  }

  #compose() {
    const { text, problem } = this.#composed();
    say(this.#part("problem"), problem);
    this.#part("payload").value = text;
  }

  /** The payload that the fields make, as text, and what is wrong with it. */
  #composed() {
    try {
      return { text: JSON.stringify(objectOf(this.#fields), null, 2), problem: "" };
    } catch (error) {
      return { text: "", problem: error.message };
    }
  }

  async #send() {
    const outcome = this.#part("outcome"), type = this.#part("action").value, key = this.#part("key").value;
    outcome.className = "";
    try {
      const written = this.#part("payload").value;
      if (written === "") throw new Error(this.#composed().problem || "expected JSON in the payload");
      const payload = parsed(written, "the payload");
      say(outcome, "sending …");
      const result = await this.#model.client.dispatch(type, payload, this.#part("key").required ? { key } : {});
      const changed = result.changes.map(({ slice, version }) => `${slice} is at version ${version}`).join(", ");
      say(outcome, visible(`accepted at ${result.position}: ${changed || "nothing has changed"}`));
      outcome.className = "good";
    } catch (error) {
      say(outcome, visible(`${error.code ?? "not sent"}${error.reason ? ` (${error.reason})` : ""}: ${error.message}`));
      outcome.className = "bad";
    }
  }
}

function objectOf(fields) {
  const object = {};
  for (const { name, read } of fields) {
    const value = read();
    if (value !== undefined) Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
  }
  return object;
}

function parsed(text, what) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`expected JSON in ${what}`);
  }
}

/** The element of a field, and a function that reads it: {name, element, read}. */
function control(field, id) {
  const { name, kind, required, description, preset, nullable } = field;
  if (kind === "group" && required) {
    const fields = field.fields.map((each, at) => control(each, `${id}-${at}`));
    const legend = made("legend", { textContent: visible(name) });
    return { name, element: made("fieldset", {}, legend, ...fields.map(({ element }) => element)), read: () => objectOf(fields) };
  }
  const input = Object.assign(inputOf(field), { id });
  const rest = [required ? "" : "optional", description, preset === undefined || preset === null ? "" : `default ${indented(preset, 60)}`];
  const hint = made("small", { id: `${id}-hint`, textContent: visible(rest.filter(Boolean).join("; ")) });
  input.setAttribute("aria-describedby", hint.id);
  const label = made("label", { htmlFor: id, textContent: visible(name) });
  const read = () => {
    const text = input.value;
    if (text === "" && !(required && kind === "string")) {
      if (required && !nullable) throw new Error(`${visible(name)} is required`);
      return required ? null : undefined;
    }
    return valueOf(field, text);
  };
  return { name, element: made("div", { className: "field" }, label, input, hint), read };
}

function inputOf({ kind, choices, required, schema }) {
  if (kind === "integer" || kind === "number")
    return made("input", { type: "number", step: kind === "integer" ? "1" : "any", min: schema.minimum ?? "", max: schema.maximum ?? "", autocomplete: "off" });
  if (kind === "boolean") return selected(["true", "false"].map((text) => [text, text]), required);
  if (kind === "choice") return selected(choices.map((each) => [JSON.stringify(each), String(each)]), required);
  if (kind === "string") return made("input", { type: "text", autocomplete: "off", spellcheck: false });
  return made("textarea", { rows: 2, placeholder: "JSON", spellcheck: false });
}

function selected(pairs, required) {
  const options = pairs.map(([value, text]) => made("option", { value, textContent: visible(text) }));
  return made("select", {}, ...(required ? [] : [made("option", { value: "", textContent: "" })]), ...options);
}

function valueOf({ kind, name }, text) {
  if (kind === "string") return text;
  if (kind === "integer" || kind === "number") return Number(text);
  return parsed(text, visible(name));
}
