/* page.js: the page: it joins the chat, the sidebar, the board and the keys.
 *
 * Invariants: everything is drawn in one place, at most once per frame. The address names the chat that is open.
 */
import { connect } from "../client.js";
import { keyOf } from "../conversation.js";
import { Board, expected } from "./board.js";
import { Composer } from "./composer.js";
import { Drafts, NEW_CHAT } from "./drafts.js";
import { say, show } from "./elements.js";
import { Messages } from "./messages.js";
import { avatarOf } from "./names.js";
import { People } from "./people.js";
import { become, problemWith, whoAmI } from "./person.js";
import { ask, root } from "./server.js";
import { Sidebar, hashOf } from "./sidebar.js";
import { Talk } from "./talk.js";

const NEW = "#new";
const PATIENCE_MS = 800; // without a connection, before people are told
const $ = (id) => document.getElementById(id);
const narrow = matchMedia("(max-width: 799px)");

const me = whoAmI(),
  drafts = new Drafts(me),
  lists = `chats/${keyOf(me)}`;
const client = connect(root, { slices: ["board", lists], identity: me, optimistic: expected });
const messages = new Messages(
  $("scroller"),
  { list: $("messages"), more: $("more"), jump: $("jump"), live: $("live"), trouble: $("trouble") },
  { me, drafts, rest: () => composer.focus() },
);
const composer = new Composer($("composer"), drafts, {
  sent: (given) => given === talk && messages.toEnd(),
  accepted: () => remember(),
  stop: () => void stop(),
});
const sidebar = new Sidebar(
  { list: $("chats"), found: $("found"), status: $("search-status"), field: $("search") },
  { pick },
);
const people = new People(
  me,
  { dialog: $("people-dialog"), button: $("people"), faces: $("faces"), typing: $("typing") },
  { gone: () => ((drafts.last = null), open(null)) },
);
let turn = 0, // counts what people have wanted to see
  talk = null,
  frame = null,
  lost = null,
  wanted = null;

globalThis.chat = {
  client,
  get talk() {
    return talk;
  },
  me,
}; // for the console

// drawing

function schedule() {
  frame ??= requestAnimationFrame(draw);
}

function draw() {
  frame = null;
  if (talk === null) return;
  const { status, title } = talk.view;
  if (talk.isNew && talk.exists) begun();
  sidebar.render(client.state[lists]?.chats, talk.id);
  messages.render();
  composer.render();
  people.render();
  const shown = title ?? (status === "missing" ? "No such chat" : "New chat");
  say($("title"), shown);
  document.title = `${shown} · statestream`;
  show($("welcome"), status === "ready" && talk.messages.length === 0);
  show($("missing"), status === "missing");
  show($("loading"), status === "loading");
  show($("typing"), $("typing").textContent !== "");
  document.body.classList.toggle("empty", status === "ready" && talk.messages.length === 0);
  drawHealth();
  if (wanted !== null && talk.messages.length > 0) {
    void messages.reveal(wanted);
    wanted = null;
  }
}

function drawHealth() {
  const { phase, error } = client.health,
    live = phase === "live" && navigator.onLine;
  $("status").className = live ? "live" : phase === "ended" ? "ended" : "waiting";
  say(
    $("status"),
    live
      ? "Live"
      : !navigator.onLine
        ? "Offline"
        : phase === "connecting"
          ? "Connecting"
          : phase === "ended"
            ? "Ended"
            : "Reconnecting",
  );
  if (live) lost = null;
  else lost ??= performance.now();
  const late = lost !== null && performance.now() - lost >= PATIENCE_MS;
  if (!live && !late) setTimeout(schedule, PATIENCE_MS);
  const sentence =
    phase === "ended"
      ? `${error?.message ?? "The connection has ended."} Load the page again.`
      : !navigator.onLine
        ? "You are offline. What you write is kept, and sent when you are back."
        : "The server does not answer. Trying again; what you write is kept.";
  show($("lost"), !live && (late || phase === "ended"));
  if (!live) say($("lost-text"), sentence);
  show($("reload"), phase === "ended");
}

// chats

/** Shows a chat, or a new one if it is null. */
function open(id, message = null) {
  turn += 1;
  if (id !== null && talk?.id === id) return message === null ? undefined : void messages.reveal(message);
  talk?.close();
  talk = new Talk(client, me, id === null ? { id: drafts.of(NEW_CHAT).chat, isNew: true } : { id }, schedule);
  wanted = message;
  const hash = id === null ? NEW : hashOf(id);
  if (location.hash !== hash) history[location.hash === "" ? "replaceState" : "pushState"](null, "", hash);
  if (id !== null) drafts.last = id;
  messages.open(talk);
  composer.open(talk);
  people.open(talk);
  schedule();
}

/** A link lets people take part. Nobody has to ask for a chat that they have. People may want another one meanwhile. */
async function visit(id, isNamed) {
  const wish = (turn += 1);
  const answer = sidebar.has(id) ? null : await ask("POST", `join/${encodeURIComponent(id)}`, {}).catch(() => null);
  if (wish !== turn) return;
  const isGone = answer?.joined === false && client.position !== null;
  open(isGone && !isNamed ? sidebar.newest : id); // the page shows what comes of it
}

function pick(id, message = null) {
  toggle("sidebar", "menu", false);
  open(id, message);
  if (message === null) composer.focus();
}

/** The new chat exists now. */
function begun() {
  talk.isNew = false;
  remember();
}

/** As soon as no draft leads to a new chat any more, the address does, before anything is drawn. */
function remember() {
  drafts.last = talk.id;
  if (location.hash === NEW) history.replaceState(null, "", hashOf(talk.id));
}

async function stop() {
  try {
    await talk.desk.stop();
    composer.focus();
  } catch {
    // the reply has ended meanwhile, or the page says that the server does not answer
  }
}

const named = () => {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
};

function go() {
  if (location.hash === NEW) return open(null);
  const id = named() || drafts.last;
  if (id) void visit(id, named() !== "");
  else open(sidebar.newest);
}

// the parts beside the chat

function toggle(panel, button, to = !$(panel).classList.contains("open")) {
  $(panel).classList.toggle("open", to);
  $(button).ariaExpanded = String(to);
  document.body.classList.toggle(`${panel}-open`, to);
  if (to && narrow.matches) $(panel).querySelector("input, a, button")?.focus();
  else if (!to && $(panel).contains(document.activeElement)) $(button).focus();
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  drafts.theme = theme;
}

const isDark = () =>
  (document.documentElement.dataset.theme ??
    (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function rename(event) {
  event.preventDefault();
  const name = event.target.elements.name.value.trim(),
    problem = problemWith(name);
  say($("person-problem"), problem ?? "");
  if (problem !== null) return;
  $("person-dialog").close();
  if (name !== me) become(name);
}

/** Stops the reply only for those who are at the conversation, or nowhere. */
function escape(at) {
  const panel = ["sidebar", "board"].find((name) => narrow.matches && $(name).classList.contains("open"));
  if (panel !== undefined) return toggle(panel, panel === "board" ? "board-button" : "menu", false);
  const isHere = at === document.body || $("composer").contains(at) || $("scroller").contains(at);
  if (talk?.view.status === "streaming" && isHere) void stop();
}

function keys(event) {
  const command = event.ctrlKey || event.metaKey;
  if (document.querySelector("dialog[open]")) return;
  if (command && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (narrow.matches) toggle("sidebar", "menu", true);
    sidebar.focusSearch();
  } else if (command && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    fresh();
  } else if (event.key === "Escape" && !event.defaultPrevented && !event.isComposing) escape(event.target);
}

function fresh() {
  toggle("sidebar", "menu", false);
  if (!talk?.isNew || talk.exists || location.hash !== NEW) open(null);
  composer.field.focus();
}

// files that are dropped anywhere

let dragged = 0;
const drops = (by) => document.body.classList.toggle("dropping", (dragged = Math.max(0, dragged + by)) > 0);
const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragenter", (event) => hasFiles(event) && drops(1));
addEventListener("dragleave", (event) => hasFiles(event) && drops(-1));
addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  drops(-dragged);
  void composer.attach([...event.dataTransfer.files]);
});

new Board(client, {
  list: $("tasks"),
  form: $("add"),
  empty: $("no-tasks"),
  count: $("task-count"),
  problem: $("board-problem"),
  waiting: $("board-waiting"),
});
$("me").prepend(avatarOf(me, "small"));
say($("my-name"), me);
$("me").addEventListener("click", () => {
  $("person-dialog").querySelector("input").value = me;
  $("person-dialog").showModal();
});
$("person-dialog").querySelector("form").addEventListener("submit", rename);
for (const button of document.querySelectorAll("[data-close]"))
  button.addEventListener("click", () => button.closest("dialog").close());
for (const button of document.querySelectorAll("[data-suggest]"))
  button.addEventListener("click", () => composer.suggest(button.dataset.suggest));
for (const button of document.querySelectorAll("[data-new]")) button.addEventListener("click", fresh);
$("menu").addEventListener("click", () => toggle("sidebar", "menu"));
$("close-sidebar").addEventListener("click", () => toggle("sidebar", "menu", false));
$("board-button").addEventListener("click", () => toggle("board", "board-button"));
$("close-board").addEventListener("click", () => toggle("board", "board-button", false));
$("veil").addEventListener("click", () => escape(null));
$("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
$("reload").addEventListener("click", () => location.reload());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names a chat, not a place in the page
  composer.field.focus();
});
addEventListener("keydown", keys);
addEventListener("hashchange", go);
for (const name of ["online", "offline"]) addEventListener(name, schedule);
setTheme(drafts.theme);
client.subscribe(schedule);
schedule();

// The list of chats says which ones need no invitation, and which one is the newest; a server that is away must not
// keep anybody waiting.
await Promise.race([client.ready.catch(() => {}), new Promise((resolve) => setTimeout(resolve, 2000))]);
sidebar.render(client.state[lists]?.chats, null);
go();
composer.focus();
