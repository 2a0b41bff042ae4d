/* blocks.js: Markdown as blocks, such as paragraphs, lists and blocks of code.
 *
 * While a text grows, only its last block can change, so only that one is parsed again. Some constructs reach further,
 * such as a reference that is defined later; the finished text is parsed once as a whole.
 *
 * Invariants: nothing here touches the page. The blocks of a finished text do not depend on how it has grown. No text
 * makes it throw, or keeps it busy for long: the parser needs more than linear time, so what it is given is bounded.
 */
import { Lexer } from "../vendor/marked/marked.esm.js";

const NOTHING = ["space", "def"]; // what is not shown
const MAX_INLINE = 5_000; // characters of a paragraph, of an item or of a cell; a longer one is shown as it was written
const MAX_DEPTH = 30; // of blocks in blocks
const SLOW_MS = 30; // a growing block that takes longer is parsed again only when it has grown by a quarter
const GROWTH = 1.25;

/** `text` is the source of a block, `token` is what it was parsed to: null if it could not be. */
const blockOf = (token) => ({ text: token.raw, token });

/** The parser, with bounds: what is too long or too deep is plain text. */
class Bounded extends Lexer {
  #depth = 0;

  inlineTokens(text, tokens = []) {
    return text.length > MAX_INLINE ? plain(text, tokens) : super.inlineTokens(text, tokens);
  }

  blockTokens(text, tokens = [], ...more) {
    if (this.#depth >= MAX_DEPTH) return plain(text, tokens);
    this.#depth += 1;
    try {
      return super.blockTokens(text, tokens, ...more);
    } finally {
      this.#depth -= 1;
    }
  }
}

function plain(text, tokens) {
  tokens.push({ type: "text", raw: text, text });
  return tokens;
}

function parsed(text) {
  try {
    return new Bounded().lex(text);
  } catch {
    return [{ type: "unparsed", raw: text }]; // nested too deeply
  }
}

/** The blocks of a growing text. */
export class Blocks {
  #stable = []; // blocks that are complete
  #offset = 0; // where the growing one begins
  #text = "";
  #over = false;
  #last = null; // the blocks of the text before
  #seen = { blocks: [], length: 0, due: 0 }; // what was parsed last of a growing text; the length for the next parse
  parses = 0; // characters that were parsed

  /** The blocks of the text: those that are equal to blocks of the text before are the same objects. */
  of(text, over) {
    if (text === this.#text && over === this.#over && this.#last !== null) return this.#last;
    const grew = text.startsWith(this.#text) && !this.#over;
    const before = this.#last ?? [];
    if (!grew) [this.#stable, this.#offset, this.#seen] = [[], 0, { blocks: [], length: 0, due: 0 }];
    this.#last = over ? this.#whole(text, before) : this.#grown(text, before);
    [this.#text, this.#over] = [text, over];
    return this.#last;
  }

  #parse(text) {
    this.parses += text.length;
    return parsed(text);
  }

  #grown(text, before) {
    const { blocks, length, due } = this.#seen;
    if (text.length < due) return [...blocks, blockOf({ type: "unparsed", raw: text.slice(length) })];
    const began = performance.now(),
      tokens = this.#parse(text.slice(this.#offset));
    const slow = performance.now() - began > SLOW_MS;
    const growing = tokens.findLastIndex(({ type }) => !NOTHING.includes(type));
    for (const token of tokens.slice(0, Math.max(0, growing))) {
      this.#offset += token.raw.length;
      if (!NOTHING.includes(token.type)) this.#stable.push(same(blockOf(token), before[this.#stable.length]));
    }
    const last = growing < 0 ? [] : [same(blockOf(tokens[growing]), before[this.#stable.length])];
    const isProse = last.length > 0 && last[0].token.type !== "code"; // code is read in no time
    const next = slow && isProse ? this.#offset + (text.length - this.#offset) * GROWTH : 0;
    this.#seen = { blocks: [...this.#stable, ...last], length: text.length, due: next };
    return this.#seen.blocks;
  }

  /** All of it at once: a block keeps its object only if nothing else can have changed what it means. */
  #whole(text, before) {
    const tokens = this.#parse(text),
      shown = tokens.filter(({ type }) => !NOTHING.includes(type));
    const refers = tokens.some(({ type }) => type === "def");
    return shown.map((token, at) => (refers ? blockOf(token) : same(blockOf(token), before[at])));
  }
}

/** The earlier block if it is equal. The line breaks after a block do not count. */
function same(block, before) {
  if (before === undefined || before.token.type !== block.token.type) return block;
  return before.text.trimEnd() === block.text.trimEnd() ? before : block;
}

const NAMED = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  nbsp: "\u00a0",
  copy: "©",
  reg: "®",
  trade: "™",
  hellip: "…",
  mdash: "—",
  ndash: "–",
  larr: "←",
  rarr: "→",
  times: "×",
  deg: "°",
  euro: "€",
  middot: "·",
  bull: "•",
};

/** Text with the characters for which HTML's references stand. */
export function unescaped(text) {
  return text.replace(/&(?:#x([0-9a-f]{1,6})|#([0-9]{1,7})|([a-z]+));/gi, (whole, hex, decimal, name) => {
    if (name !== undefined) return Object.hasOwn(NAMED, name) ? NAMED[name] : whole;
    const code = hex === undefined ? Number(decimal) : parseInt(hex, 16);
    return code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? String.fromCodePoint(code) : "\ufffd";
  });
}

/** Where a link may lead: to the web, or to a mailbox. Null for anything else. */
export function linkOf(href) {
  const text = unescaped(String(href)).trim();
  if (!/^(?:https?:\/\/|mailto:)/i.test(text)) return null;
  try {
    return new URL(text).href;
  } catch {
    return null;
  }
}

/** The path of a file that the server has; null for any other address. */
export function fileOf(href) {
  return /^\/api\/chats\/[A-Za-z0-9._~:@%-]+\/files\/[0-9a-f]{32}$/.test(href) ? href : null;
}

/** The address of a picture that the page may show: one that contains it. The page loads nothing from other servers. */
export function pictureOf(href) {
  return /^data:image\/(?:png|jpeg|gif|webp|avif|bmp);base64,[A-Za-z0-9+/=]+$/.test(href) ? href : null;
}
