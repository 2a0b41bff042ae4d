/* The pure core of the chat page: Markdown as blocks while it grows, and which addresses it shows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Blocks, linkOf, pictureOf, unescaped } from "../../../statestream/browser/chat/blocks.js";

const TEXTS = [
  "# Title\n\nText *with* [a link](https://example.org).\n\n- one\n- two\n\n  more of two\n\n1. first\n2. second\n\nThe end.",
  "```js\nlet a = `x`;\n\n# no title\n```\n\nafter\n\n~~~\nopen",
  "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n> quoted\nlazily\n\n> again\n\n---\n\nTitle\n===\n",
  "See [x][1] and [y].\n\nMore.\n\n[1]: https://example.org\n[y]: https://example.net\n",
  "- a\n\n- b\n\n* c\n\n-\n\n--- \n\n    code\n\n<div>\n\ntext\n\n</div>",
  "\r\nline\r\n\r\n* item\r\n\t* inner\r\n\r\nend \\",
  "\n\n   \n\n",
  "",
];
const shown = (blocks) => blocks.map(({ text, token: { type } }) => [type, text.trimEnd()]);
const random = (seed) => () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;

test("a finished text has the same blocks however it has grown", () => {
  for (const text of TEXTS)
    for (let seed = 1; seed <= 20; seed += 1) {
      const next = random(seed),
        growing = new Blocks();
      for (let end = 0; end < text.length; end += 1 + Math.floor(next() * 9)) growing.of(text.slice(0, end), false);
      assert.deepEqual(shown(growing.of(text, true)), shown(new Blocks().of(text, true)), `seed ${seed}`);
    }
});

test("a block that is complete is not parsed again, and stays the same object", () => {
  const paragraphs = Array.from({ length: 200 }, (_, at) => `Paragraph ${at} has some words.`),
    growing = new Blocks();
  let text = "",
    first;
  for (const paragraph of paragraphs)
    for (const word of `${paragraph}\n\n`.match(/\S+|\s+/g)) {
      text += word;
      const [block] = growing.of(text, false);
      if (text.length > 100) assert.equal((first ??= block), block);
    }
  assert.ok(growing.parses < text.length * 30, `${growing.parses} of ${text.length}`);
  const before = growing.of(text, false),
    after = growing.of(text, true);
  assert.deepEqual(
    before.map((block, at) => block === after[at]),
    paragraphs.map(() => true),
  );
});

test("another text begins anew", () => {
  const blocks = new Blocks();
  blocks.of("one\n\ntwo", false);
  assert.deepEqual(shown(blocks.of("three", false)), [["paragraph", "three"]]);
  assert.equal(blocks.of("three", false), blocks.of("three", false));
});

test("no text makes it throw or stand still", () => {
  const hostile = [
    ">".repeat(5_000),
    "[".repeat(5_000),
    "*a ".repeat(5_000),
    "- ".repeat(2_000),
    "`".repeat(5_000),
    "![".repeat(3_000),
    "<".repeat(5_000),
    "|".repeat(5_000),
    `${"a".repeat(5_000)}\n${"|-".repeat(2_000)}`,
    "\u0000\ud800",
    "__proto__\n\n[__proto__]: javascript:x\n\n[constructor]",
  ];
  for (const text of hostile) {
    const began = performance.now(),
      blocks = new Blocks();
    for (const over of [false, true]) assert.ok(Array.isArray(blocks.of(text, over)));
    assert.ok(performance.now() - began < 20_000, text.slice(0, 10));
  }
});

const SLOW = {
  addresses: `${"a.".repeat(40_000)}@`,
  emphasis: "***a***".repeat(11_000),
  "emphasis in lines": "***a***\n".repeat(10_000),
  "emphasis in paragraphs": `${"***a***".repeat(700)}\n\n`.repeat(8),
  "emphasis in a quotation": "> ***a***\n".repeat(8_000),
  "emphasis in an item": `- ${"***a***".repeat(11_000)}`,
  "lists in lists": "* ".repeat(40_000),
  "quotations in lists": "> - ".repeat(20_000),
  items: "* a\n".repeat(5_000),
  code: `\`\`\`js\n${"***a***\n".repeat(10_000)}\`\`\`\n`,
};
for (const [name, text] of Object.entries(SLOW))
  test(`a growing reply of 80 kB does not hold up the page: ${name}`, () => {
    const began = performance.now(),
      blocks = new Blocks();
    for (let end = 0; end < text.length; end += 4_000) blocks.of(text.slice(0, end), false);
    const all = blocks.of(text, true);
    assert.ok(performance.now() - began < 8_000, `${performance.now() - began} ms`);
    assert.ok(all.map((block) => block.text).join("").length > text.length * 0.99);
  });

test("prose that is too long stays as it was written, and what is beside it is parsed", () => {
  const [title, long, list] = new Blocks().of(`# Title\n\n${"*a* ".repeat(2_000)}\n\n- *one*`, true);
  assert.equal(title.token.type, "heading");
  assert.deepEqual(
    long.token.tokens.map(({ type, text }) => [type, text.length > 7_000]),
    [["text", true]],
  );
  assert.equal(list.token.items[0].tokens[0].tokens[0].type, "em");
});

test("a block that takes long is parsed again when it has grown by a quarter, and all of its text shows", (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => (now += 50)); // every parse is slow
  const blocks = new Blocks(),
    text = "*word* ".repeat(100);
  for (let end = 1; end <= text.length; end += 1)
    assert.equal(
      blocks
        .of(text.slice(0, end), false)
        .map((block) => block.text)
        .join(""),
      text.slice(0, end),
    );
  assert.ok(blocks.parses < text.length * 8, `${blocks.parses}`);
  assert.deepEqual(shown(blocks.of(text, true)), shown(new Blocks().of(text, true)));
});

test("a link leads to the web or to a mailbox", () => {
  assert.equal(linkOf("https://example.org/a b"), "https://example.org/a%20b");
  assert.equal(linkOf(" HTTP://Example.org"), "http://example.org/");
  assert.equal(linkOf("mailto:ana@example.org"), "mailto:ana@example.org");
  const bad = [
    "javascript:alert(1)",
    "JaVaScRiPt:x",
    "&#106;avascript:x",
    "java\nscript:x",
    "data:text/html,x",
    "vbscript:x",
    "//example.org",
    "/admin",
    "#top",
    "file:///etc/passwd",
    "blob:https://x/y",
    "https://",
    "",
    null,
    undefined,
  ];
  for (const href of bad) assert.equal(linkOf(href), null, String(href));
});

test("a picture is one that the message contains", () => {
  assert.equal(pictureOf("data:image/png;base64,AAAA"), "data:image/png;base64,AAAA");
  for (const src of [
    "data:image/svg+xml;base64,AAAA",
    "data:text/html;base64,AAAA",
    "https://example.org/x.png",
    "data:image/png,x",
    'data:image/png;base64,A" onerror="x',
  ])
    assert.equal(pictureOf(src), null, src);
});

test("references of HTML become characters, and nothing else", () => {
  assert.equal(
    unescaped("a &amp; b &lt;i&gt; &#65;&#x42; &nope; &constructor; &copy"),
    "a & b <i> AB &nope; &constructor; &copy",
  );
  assert.equal(unescaped("&#0;&#xd800;&#x110000;&amp;lt;"), "\ufffd\ufffd\ufffd&lt;");
});
