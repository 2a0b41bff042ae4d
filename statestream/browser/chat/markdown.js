/* markdown.js: Markdown as elements of the page.
 *
 * Invariants: elements are made one by one, from what the parser has found. HTML in a text is shown as text. A link
 * leads to the web or to a mailbox, and a picture is part of the message; anything else stays text. A block that has
 * not changed keeps its element, and with it the reader's selection.
 */
import { Blocks, linkOf, pictureOf, unescaped } from "./blocks.js";
import { Code } from "./code.js";
import { element } from "./elements.js";

const MAX_DEPTH = 40; // of what is inside of each other; deeper, it is shown as text
const TOP = 3; // the level of the heading above a message

/** One text, as the children of an element. */
export class Markdown {
  #blocks = new Blocks();
  #shown = []; // {block, view} in the order of the page
  element = element("div", { className: "markdown", dir: "auto" });

  update(text, over) {
    const blocks = this.#blocks.of(text, over);
    blocks.forEach((block, at) => this.#show(block, at, over || at < blocks.length - 1));
    for (const { view } of this.#shown.splice(blocks.length)) view.element.remove();
  }

  #show(block, at, over) {
    const before = this.#shown[at];
    if (before?.block === block && before.over === over) return;
    const isCode = block.token.type === "code",
      keeps = isCode && before?.view instanceof Code;
    const level = at === 0 ? TOP : this.#shown[at - 1].level;
    if (before?.block === block && !isCode) return void (before.over = over);
    const view = keeps ? before.view : isCode ? new Code() : { element: blockElement(block, level) };
    if (isCode) view.update(block.token.text, block.token.lang, over);
    this.#shown[at] = { block, view, over, level: levelOf(view.element) ?? level };
    if (keeps) return;
    if (before) before.view.element.replaceWith(view.element);
    else this.element.append(view.element);
  }
}

function blockElement({ text, token }, level) {
  try {
    return new Writer(level).block(token) ?? element("p", {}, text);
  } catch {
    return element("p", { className: "plain" }, text); // nested too deeply
  }
}

const levelOf = ({ tagName }) => (/^H[1-6]$/.test(tagName) ? Number(tagName[1]) : null);

/** Makes elements of tokens. `level` is that of the heading before. */
class Writer {
  #level;
  #depth = 0;

  constructor(level) {
    this.#level = level;
  }

  #within(work) {
    if ((this.#depth += 1) > MAX_DEPTH) throw new RangeError("too deep");
    const made = work();
    this.#depth -= 1;
    return made;
  }

  /** The element of a block; null for what is not shown. */
  block(token) {
    const make = BLOCKS[token.type];
    if (make === undefined)
      return token.tokens
        ? this.#paragraph(token)
        : token.raw
          ? element("p", { className: "plain" }, token.raw.trimEnd())
          : null;
    return this.#within(() => make.call(this, token));
  }

  blocks(tokens) {
    return tokens
      .map((token) => (token.type === "text" ? this.inline(token.tokens ?? [token]) : [this.block(token)]))
      .flat();
  }

  #paragraph(token) {
    return element("p", {}, ...this.inline(token.tokens));
  }

  heading({ depth, tokens }) {
    this.#level = Math.min(6, TOP + depth, this.#level + 1);
    return element(`h${this.#level}`, { className: `rank-${depth}` }, ...this.inline(tokens));
  }

  list({ ordered, start, items }) {
    const list = element(ordered ? "ol" : "ul", {}, ...items.map((item) => this.#item(item)));
    if (ordered && start !== 1 && Number.isSafeInteger(start)) list.start = start;
    return list;
  }

  #item({ task, checked, tokens }) {
    const rest = tokens.filter(({ type }) => type !== "checkbox");
    const box = task
      ? element("span", {
          role: "img",
          ariaLabel: checked ? "done" : "not done",
          className: `task ${checked ? "checked" : ""}`,
        })
      : null;
    return element("li", { className: task ? "has-task" : "" }, box, ...this.blocks(rest));
  }

  table({ header, rows }) {
    const cell =
      (tag) =>
      ({ tokens, align }) =>
        element(tag, { data: align ? { align } : {} }, ...this.inline(tokens));
    const head = element("thead", {}, element("tr", {}, ...header.map(cell("th"))));
    const body = element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td")))));
    return element(
      "div",
      { className: "scrolls", tabIndex: 0, role: "region", ariaLabel: "Table" },
      element("table", {}, head, body),
    );
  }

  code({ text, lang }) {
    const code = new Code();
    code.update(text, lang, true);
    return code.element;
  }

  /** Nodes for what stands within a line. */
  inline(tokens = []) {
    return this.#within(() => tokens.flatMap((token) => (INLINE[token.type] ?? textOf).call(this, token)));
  }

  link({ href, title, tokens }) {
    const to = linkOf(href),
      inside = this.inline(tokens);
    if (to === null) return inside;
    return element(
      "a",
      { href: to, title: title ?? undefined, rel: "noopener noreferrer", target: "_blank" },
      ...inside,
    );
  }

  image({ href, text }) {
    const picture = pictureOf(href),
      link = linkOf(href),
      alt = unescaped(text);
    if (picture !== null) return element("img", { src: picture, alt, loading: "lazy" });
    if (link !== null) return element("a", { href: link, rel: "noopener noreferrer", target: "_blank" }, alt || link);
    return alt;
  }
}

const textOf = ({ text, raw }) => unescaped(text ?? raw);
const wrap = (tag) =>
  function wrapped({ tokens }) {
    return element(tag, {}, ...this.inline(tokens));
  };

const BLOCKS = {
  heading: Writer.prototype.heading,
  list: Writer.prototype.list,
  table: Writer.prototype.table,
  code: Writer.prototype.code,
  hr: () => element("hr"),
  blockquote({ tokens }) {
    return element("blockquote", {}, ...this.blocks(tokens));
  },
  html: ({ raw }) => element("p", { className: "plain" }, raw.trimEnd()),
};

const INLINE = {
  strong: wrap("strong"),
  em: wrap("em"),
  del: wrap("del"),
  link: Writer.prototype.link,
  image: Writer.prototype.image,
  br: () => element("br"),
  codespan: ({ text }) => element("code", {}, text),
  escape: ({ text }) => text,
  html: ({ raw }) => raw,
  text(token) {
    return token.tokens ? this.inline(token.tokens) : textOf(token);
  },
};
