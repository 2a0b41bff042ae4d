/* browser.mjs: Chromium behind lines of JSON. A command comes in on stdin, its answer goes out on stdout.
 *
 * Invariants: no test in here, only what a person could do with a window, what the page has shown, and what it has
 * complained about. Every window is a browser of its own, unless it is opened beside another one: nothing is shared but
 * the server. With `--tabs`, all windows are tabs of one browser, as people have them: those behind others are hidden,
 * and the browser freezes them or keeps them in its back/forward cache. Otherwise, every page believes that it is in
 * front. No page reaches another machine, and each that tries is a problem.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const PATIENCE_MS = 15_000;
const axeCore = fileURLToPath(import.meta.resolve("axe-core/axe.min.js"));
const quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const [executablePath, ...given] = process.argv.slice(2);
const alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1";
const always = ["--no-sandbox", "--disable-gpu", alone, ...quiet];
const plain = given.includes("--tabs") ? await launchPlain() : null;
const browser = plain?.browser ?? (await chromium.launch({ executablePath, args: [...always, ...given] }));
const tabs = plain?.browser.contexts()[0];
if (plain === null) browser.on("disconnected", () => process.exit()); // also if it has crashed
const windows = new Map();

/** A browser with none of playwright's defaults, and what ends it. */
async function launchPlain() {
  const profile = mkdtempSync(join(tmpdir(), "statestream-chromium-"));
  const own = ["--headless=new", "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank"];
  const child = spawn(executablePath, [...always, ...own], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  process.once("exit", () => child.kill());
  let said = "";
  const address = await new Promise((resolve, reject) => {
    child.once("exit", () => reject(new Error(`Chromium has ended: ${said}`)));
    child.stderr.on("data", (text) => {
      const [, found] = /listening on (ws:\S+)/.exec((said += text)) ?? [];
      if (found) resolve(found);
    });
  });
  const browser = await chromium.connectOverCDP(address, { noDefaults: true });
  const close = async () => {
    child.kill();
    await ended;
    rmSync(profile, { recursive: true, force: true, maxRetries: 9 });
  };
  return { browser, close };
}

/** Runs in the page before its own scripts: `seen` keeps the lengths of the growing reply and the events of the stream. */
function record() {
  const seen = (globalThis.seen = { lengths: [], events: [], connections: 0, open: 0, urls: [] });
  new MutationObserver(() => {
    const reply = document.querySelector("#messages li:last-child.streaming");
    if (reply && reply.textContent.length !== seen.lengths.at(-1)) seen.lengths.push(reply.textContent.length);
  }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
  globalThis.EventSource = class extends EventSource {
    constructor(...given) {
      super(...given);
      seen.connections += 1;
      for (const name of ["state.initial", "state.resumed", "state.update", "state.catchup", "stream.end"])
        this.addEventListener(name, (event) => seen.events.push({ name, ...JSON.parse(event.data) }));
    }
  };
  const request = globalThis.fetch;
  globalThis.fetch = async (...given) => {
    if (!String(given[0]).includes("/stream/state")) return request(...given);
    seen.connections += 1;
    seen.urls.push(String(given[0]));
    const response = await request(...given);
    if (response.status !== 200) return response;
    const [mine, theirs] = response.body.tee();
    seen.open += 1;
    const ended = () => (seen.open -= 1);
    void hear(mine.pipeThrough(new TextDecoderStream()).getReader()).then(ended, ended); // or it was cut
    return Object.defineProperty(response, "body", { value: theirs });
  };
  async function hear(reader) {
    let text = "";
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const frames = (text + next.value).split("\n\n");
      text = frames.pop();
      for (const frame of frames) {
        const [, name] = /^event: (.*)$/m.exec(frame) ?? [], [, data] = /^data: (.*)$/m.exec(frame) ?? [];
        if (name !== undefined && name !== "heartbeat") seen.events.push({ name, ...JSON.parse(data) });
      }
    }
  }
}

const isAway = ({ protocol, hostname }) =>
  /^(https?|wss?):$/.test(protocol) && !/^(127\.0\.0\.1|(.*\.)?localhost)$/.test(hostname);

/** `trusting`: whoever made the certificate. `beside`: another window, of whose browser it is a tab. `cookie`: {name,
 * value}, which the browser has already. `touch`: whether people touch it. */
async function open({ window, url, width = 1000, height = 700, theme = "light", trusting = false, touch = false, cookie, beside }) {
  const look = { viewport: { width, height }, deviceScaleFactor: 1, colorScheme: theme, hasTouch: touch, isMobile: touch };
  const own = () => browser.newContext({ ...look, ignoreHTTPSErrors: trusting });
  const context = tabs ?? windows.get(beside)?.context ?? (await own());
  if (cookie) await context.addCookies([{ ...cookie, url }]);
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  const asked = (it) => isAway(new URL(it.url())) && problems.push(`asks another machine: ${it.url()}`);
  page.on("request", asked);
  page.on("websocket", asked);
  page.on("requestfailed", (request) => {
    const why = request.failure().errorText;
    if (why !== "net::ERR_ABORTED") problems.push(`${request.url()}: ${why}`); // aborted: by the page itself
  });
  page.on("response", (answer) => answer.status() >= 400 && problems.push(`${answer.url()}: ${answer.status()}`));
  await page.addInitScript(record);
  windows.set(window, { context, page, problems });
  await page.goto(url);
}

/** The script's value once it is true. It is asked in the page, so that nothing between two looks takes long.
 *
 * If the page goes elsewhere meanwhile, the next page is asked.
 */
async function wait({ page, script }) {
  const until = `new Promise((resolve, reject) => {
    const given_up = performance.now() + ${PATIENCE_MS};
    const look = () => {
      const value = (${script});
      if (value) resolve(value);
      else if (performance.now() > given_up) reject(new Error("never true: " + ${JSON.stringify(script)}));
      else setTimeout(look, 10);
    };
    look();
  })`;
  try {
    return await page.evaluate(until);
  } catch (error) {
    if (!error.message.includes("Execution context was destroyed")) throw error;
    return wait({ page, script });
  }
}

/** What axe finds in the page as it is now: the rule, how bad it is, and where. */
async function axe({ page }) {
  if (!(await page.evaluate("'axe' in globalThis"))) await page.evaluate(readFileSync(axeCore, "utf8"));
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
  const { violations } = await page.evaluate((tags) => globalThis.axe.run({ runOnly: tags }), tags);
  return violations.map(({ id, impact, nodes }) => ({ id, impact, where: nodes.map(({ target, failureSummary }) => `${target}: ${failureSummary}`) }));
}

/** What the browser does to a tab that nobody looks at, to save energy or memory. */
async function lifecycle(context, page, state) {
  const session = await context.newCDPSession(page);
  await session.send("Page.setWebLifecycleState", { state });
  await session.detach();
}

const commands = {
  axe,
  open,
  say: async ({ page, field, text }) => {
    await page.fill(field, text);
    await page.press(field, "Enter");
  },
  reload: async ({ page }) => void (await page.reload()),
  visit: async ({ page, url }) => void (await page.goto(url)),
  back: async ({ page }) => void (await page.goBack({ waitUntil: "commit" })),
  refuse: ({ page, url }) => page.route(url, (route) => route.fulfill({ status: 503 }), { times: 1 }), // the next request
  front: ({ page }) => page.bringToFront(),
  freeze: ({ context, page }) => lifecycle(context, page, "frozen"),
  thaw: ({ context, page }) => lifecycle(context, page, "active"),
  unplug: async ({ context, offline }) => void (await context.setOffline(offline)),
  click: ({ page, target }) => page.click(target),
  drag: ({ page, from, to, at }) => page.dragAndDrop(from, to, { targetPosition: at }),
  hover: ({ page, target, at }) => page.hover(target, { position: at }),
  press: ({ page, target, key }) => (target ? page.press(target, key) : page.keyboard.press(key)),
  fill: ({ page, target, text }) => page.fill(target, text),
  choose: async ({ page, target, value }) => void (await page.selectOption(target, value)),
  upload: ({ page, target, path }) => page.setInputFiles(target, path),
  download: async ({ page, target, path }) => {
    const [file] = await Promise.all([page.waitForEvent("download"), page.click(target)]);
    await file.saveAs(path);
  },
  resize: ({ page, width, height }) => page.setViewportSize({ width, height }),
  look: ({ page, script }) => page.evaluate(script),
  wait,
  problems: ({ problems }) => problems.splice(0),
  picture: async ({ page, path }) => (await page.screenshot({ path, type: "png" })).toString("base64"),
  crash: async ({ context, page }) => {
    const crashed = page.waitForEvent("crash"), session = await context.newCDPSession(page);
    session.send("Page.crash").catch(() => {}); // nobody is left to answer
    await crashed;
  },
  clear: async () => {
    await Promise.all(browser.contexts().map((context) => context.close()));
    windows.clear();
  },
  close: async ({ context, page, window }) => {
    windows.delete(window);
    await page.close();
    if (context.pages().length === 0 && context !== tabs) await context.close();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    const result = await commands[command.do]({ ...windows.get(command.window), ...command });
    answer = { result: result ?? null };
  } catch (error) {
    answer = { error: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
await plain?.close();
