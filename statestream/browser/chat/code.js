/* code.js: a block of code, with its language, its colours and a button that copies it.
 *
 * Invariants: what is copied is what was written. A language is loaded when it is first needed; until then, and without
 * colours, the code is there as text. The colours are made of the highlighter's output, as elements, not as markup.
 */
import { copy, element, iconButton, say } from "./elements.js";

const MAX_COLOURED = 50_000; // characters; longer code stays plain
const MAX_GROWING = 8_000; // the same while it grows, which colours it again with each frame
const FOLDER = "../vendor/highlight/";

const ALIASES = {
  sh: "bash",
  shell: "bash",
  zsh: "bash",
  console: "bash",
  py: "python",
  py3: "python",
  js: "javascript",
  mjs: "javascript",
  cjs: "javascript",
  jsx: "javascript",
  ts: "typescript",
  tsx: "typescript",
  html: "xml",
  svg: "xml",
  xhtml: "xml",
  yml: "yaml",
  rs: "rust",
  golang: "go",
  "c++": "cpp",
  c: "cpp",
  h: "cpp",
  hpp: "cpp",
  cc: "cpp",
  md: "markdown",
  toml: "ini",
  patch: "diff",
  jsonc: "json",
};
const LANGUAGES = new Set([
  "bash",
  "cpp",
  "css",
  "diff",
  "go",
  "ini",
  "java",
  "javascript",
  "json",
  "markdown",
  "python",
  "rust",
  "sql",
  "typescript",
  "xml",
  "yaml",
]);
const USED_BY = {
  markdown: ["xml"],
  xml: ["css", "javascript"],
  typescript: ["javascript"],
  javascript: ["xml", "css"],
};

const loaded = new Map(); // promises, by language
let highlighter = null;

/** The highlighter's name of a language; null if it does not know it. */
export function languageOf(info = "") {
  const [word] = info
      .trim()
      .toLowerCase()
      .split(/[\s{,:]/),
    name = Object.hasOwn(ALIASES, word) ? ALIASES[word] : word;
  return LANGUAGES.has(name) ? name : null;
}

async function load(language) {
  highlighter ??= (await import(`${FOLDER}core.min.js`)).default;
  const names = [language, ...(USED_BY[language] ?? [])].filter((name) => !highlighter.getLanguage(name));
  const grammars = await Promise.all(names.map((name) => import(`${FOLDER}${name}.min.js`)));
  names.forEach((name, at) => highlighter.registerLanguage(name, grammars[at].default));
}

/** Nodes for the highlighter's output, which has spans with a class, and text in which five characters are escaped. */
export function coloured(html) {
  const root = document.createDocumentFragment(),
    open = [root];
  for (const [piece] of html.matchAll(/<span class="[^"]*">|<\/span>|[^<]+/g)) {
    if (piece === "</span>") open.pop();
    else if (piece.startsWith("<"))
      open.push(open.at(-1).appendChild(element("span", { className: piece.slice(13, -2) })));
    else
      open
        .at(-1)
        .append(
          piece.replace(
            /&(amp|lt|gt|quot|#x27);/g,
            (_, name) => ({ amp: "&", lt: "<", gt: ">", quot: '"', "#x27": "'" })[name],
          ),
        );
  }
  return root;
}

export class Code {
  #text = "";
  #language = null;
  #code = element("code");
  #label = element("span");
  #scroller;

  constructor() {
    const button = iconButton("copy", "Copy the code", () => void copy(this.#text, button));
    const head = element("div", { className: "code-head" }, this.#label, button);
    this.#scroller = element("pre", { tabIndex: 0, role: "region", ariaLabel: "Code", dir: "ltr" }, this.#code);
    this.element = element("div", { className: "code", dir: "ltr" }, head, this.#scroller);
  }

  /** `info` is what stands behind the fence. `over`: whether all of the code is there. */
  update(text, info, over) {
    this.#text = text;
    this.#language = languageOf(info);
    const shown = (info ?? "").trim().split(/\s/)[0].slice(0, 30);
    say(this.#label, shown || "code");
    this.#scroller.ariaLabel = shown ? `Code, ${shown}` : "Code";
    this.#draw(over);
  }

  #draw(over) {
    const language = this.#language,
      text = this.#text;
    if (language === null || text.length > (over ? MAX_COLOURED : MAX_GROWING)) return say(this.#code, text);
    if (highlighter?.getLanguage(language)) return this.#colour(language);
    say(this.#code, text);
    if (!loaded.has(language)) loaded.set(language, load(language));
    loaded.get(language).then(
      () => this.#language === language && this.#draw(over),
      () => loaded.delete(language),
    ); // it stays plain
  }

  #colour(language) {
    const { value } = highlighter.highlight(this.#text, { language, ignoreIllegals: true });
    this.#code.replaceChildren(coloured(value));
  }
}
