/* parts.js: the parts of a message: text, what the model has thought, calls of tools, files, sources, data.
 *
 * Invariants: a part keeps its element while it grows, so what people have opened stays open. What somebody wrote is
 * text; only text of messages is read as Markdown.
 */
import { Approval } from "./approval.js";
import { fileOf, linkOf, pictureOf } from "./blocks.js";
import { element, icon, say, show } from "./elements.js";
import { Markdown } from "./markdown.js";

const MAX_SHOWN = 20_000; // characters of a result
const PICTURES = /^image\/(?:png|jpeg|gif|webp|avif|bmp)$/; // that browsers show

class Text {
  #markdown = new Markdown();
  element = this.#markdown.element;

  update({ text }, over) {
    this.#markdown.update(text, over);
  }
}

/** Text of a person, as they typed it. */
class Plain {
  element = element("p", { className: "plain", dir: "auto" });

  update({ text }) {
    say(this.element, text);
  }
}

/** Details that people open, which say in their summary how far it is. */
class Foldable {
  label = element("span", { className: "fold-label" });
  state = element("span", { className: "fold-state" });
  body = element("div", { className: "fold-body" });

  constructor(kind) {
    const summary = element("summary", {}, icon(kind), this.label, this.state, icon("fold"));
    this.element = element("details", { className: `fold ${kind}` }, summary, this.body);
  }
}

class Reasoning {
  #fold = new Foldable("thought");
  #markdown = new Markdown();
  element = this.#fold.element;

  constructor() {
    this.#fold.body.append(this.#markdown.element);
  }

  update({ text }, over) {
    say(this.#fold.label, over ? "Thought" : "Thinking…");
    this.element.classList.toggle("working", !over);
    this.#markdown.update(text, over);
  }
}

const STATES = {
  streaming: "being written…",
  running: "running…",
  complete: "done",
  error: "failed",
  denied: "denied",
};

class Tool {
  #fold = new Foldable("tool");
  #arguments = element("pre", { tabIndex: 0, dir: "auto" });
  #result = element("pre", { tabIndex: 0, dir: "auto" });
  #resultLabel = element("p", { className: "fold-caption" });
  #decided = element("p", { className: "fold-caption", hidden: true });
  #decide;
  #approval = null; // while it waits for one
  element = this.#fold.element;

  constructor(decide) {
    this.#decide = decide;
    this.#fold.body.append(
      element("p", { className: "fold-caption" }, "Arguments"),
      this.#arguments,
      this.#decided,
      this.#resultLabel,
      this.#result,
    );
  }

  /** People can decide once the whole reply waits: until then, its other tools may be running. */
  update(part, _, replyWaits) {
    const { name, status, error, result, approval, arguments: given } = part,
      done = ["complete", "error", "denied"].includes(status),
      waits = status === "waiting";
    const verb = waits ? "Wants to use " : status === "denied" ? "Wanted to use " : "Used ";
    this.#fold.label.replaceChildren(verb, element("code", {}, element("bdi", {}, name)));
    say(this.#fold.state, waits ? waitsFor(approval) : (STATES[status] ?? status));
    this.element.dataset.status = status;
    this.element.classList.toggle("working", !done && !waits);
    say(this.#arguments, (waits ? exact(given) : pretty(given)) || "none");
    this.#ask(part, waits && replyWaits && approval !== undefined && approval.approved === undefined);
    say(this.#decided, verdict(approval));
    show(this.#decided, approval?.approved !== undefined);
    for (const each of [this.#resultLabel, this.#result]) show(each, !waits);
    say(this.#resultLabel, error === undefined ? "Result" : status === "denied" ? "What the model was told" : "What went wrong");
    say(this.#result, done ? cut(error ?? JSON.stringify(result, null, 2) ?? "") : "…");
  }

  #ask(part, open) {
    if (open && this.#approval === null) {
      this.#approval = new Approval(this.#decide);
      this.#decided.before(this.#approval.element);
      this.element.open = true;
    }
    if (open) return this.#approval.update(part);
    this.#approval?.element.remove();
    this.#approval = null;
  }
}

/** What a call waits for: a decision, decisions about other calls, or a window that can run it. */
function waitsFor(approval) {
  if (approval === undefined) return "waits for a window";
  return approval.approved === undefined ? "needs approval" : "decided";
}

/** What somebody has decided about a call. */
function verdict({ approved, by, reason } = {}) {
  const who = by === undefined ? "" : ` by ${by}`,
    why = reason === undefined ? "" : `: ${reason}`;
  return approved === undefined ? "" : `${approved ? "Approved" : "Denied"}${who}${why}`;
}

const cut = (text) => (text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text);

/** All of the arguments, as the tool gets them: JavaScript rounds large numbers. */
const exact = (json) => (json.length > MAX_SHOWN || /\d{16}/.test(json) ? json : pretty(json));

function pretty(json) {
  try {
    return cut(JSON.stringify(JSON.parse(json), null, 2));
  } catch {
    return cut(json);
  }
}

class File {
  element = element("div", { className: "attachment" });

  update({ mediaType, url, filename }) {
    if (this.element.dataset.url === url.slice(-64)) return;
    this.element.dataset.url = url.slice(-64);
    const name = filename ?? mediaType,
      file = fileOf(url),
      picture = PICTURES.test(mediaType) ? (file ?? pictureOf(url)) : null,
      link = file ?? linkOf(url);
    const inside =
      picture === null
        ? [icon("file"), element("bdi", {}, name)]
        : [element("img", { src: picture, alt: filename ?? "Picture", loading: "lazy" })];
    const isSaved = /^data:/i.test(url) || (file !== null && picture === null);
    const to = isSaved
      ? { href: url, download: name }
      : { href: link ?? undefined, rel: "noopener noreferrer", target: "_blank" };
    const label = isSaved ? `Save ${name}` : `Open ${name}`;
    this.element.replaceChildren(
      element("a", { ...to, title: label, className: picture === null ? "chip" : "picture" }, ...inside),
    );
  }
}

/** A page that the reply is based on. */
class Source {
  element = element("p", { className: "source" });

  update({ url, title }) {
    const to = linkOf(url),
      label = element("bdi", {}, title ?? url);
    const inside =
      to === null
        ? label
        : element(
            "a",
            { href: to, title: url, rel: "noopener noreferrer", target: "_blank", className: "chip" },
            icon("link"),
            label,
          );
    this.element.replaceChildren(inside);
  }
}

class Data {
  #fold = new Foldable("file");
  #value = element("pre", { tabIndex: 0 });
  element = this.#fold.element;

  constructor() {
    this.#fold.body.append(this.#value);
  }

  update({ type, data }) {
    this.#fold.label.replaceChildren(element("bdi", {}, type));
    say(this.#value, cut(JSON.stringify(data, null, 2) ?? ""));
  }
}

/** From here on, another agent speaks. */
class Agent {
  element = element("p", { className: "fold-caption", dir: "auto" });

  update({ name, note }) {
    say(this.element, note === undefined ? `${name} continues` : `${name} continues: ${note}`);
  }
}

const KINDS = { text: Text, reasoning: Reasoning, tool: Tool, file: File, source: Source, agent: Agent };

/** The view of a part. `role` is that of its message, `decide` tells the server about a call that waits. */
export function partView({ type, of }, role, decide) {
  const kind = type === "text" && of ? "reasoning" : type; // what an agent says to another one
  const Kind = type === "text" && role === "user" ? Plain : Object.hasOwn(KINDS, kind) ? KINDS[kind] : Data;
  return new Kind(decide);
}
