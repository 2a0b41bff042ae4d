/* page.js: the page: it joins the model, the parts and the keys.
 *
 * Invariants: everything is drawn in one place, at most once per frame, and of the tabs only the one that is shown. No
 * markup is ever made of text.
 */
import { Change, Difference } from "./details.js";
import { Charts } from "./charts.js";
import { Form } from "./form.js";
import { moment, number, plural, visible } from "./format.js";
import { titleOf } from "./pointer.js";
import { List } from "./list.js";
import { Model } from "./model.js";
import { Readers, Weights } from "./operators.js";
import { say } from "./rows.js";
import { Runs } from "./runs.js";
import { Server, tokenOf } from "./server.js";
import { MAX_BYTES } from "./trace.js";
import { Tree } from "./tree.js";

const PLAY_MS = 250;
const TICK_MS = 1_000; // how often ages are told again
const TOKEN = "statestream-inspector-token";
const $ = (id) => document.getElementById(id);
const tabs = [...document.querySelectorAll("[role=tab]")];
const narrow = matchMedia("(max-width: 719px)");

const server = new Server(new URL(".", location.href)), query = new URLSearchParams(location.search);
const model = new Model(server, { onChange: schedule, onUpdates: (...given) => model.trace ?? tree.mark(...given) });
const list = new List($("entries"), $("filters"), model, { onChange: schedule, onJump: jump });
const tree = new Tree($("tree"), $("value"), schedule);
const parts = {
  change: new Change($("change")),
  diff: new Difference($("diff"), model, schedule),
  dispatch: new Form($("dispatch"), model),
  readers: new Readers($("readers"), model),
  weights: new Weights($("weights"), model),
  charts: new Charts($("charts"), model, schedule),
  runs: new Runs($("runs")),
};
globalThis.inspector = model; // for the console

let tab = narrow.matches ? "log" : "state", playing = null, frame = null, signing = false;

// drawing

function schedule() {
  frame ??= requestAnimationFrame(draw);
}

function draw() {
  frame = null;
  drawHead();
  drawTime();
  if (!narrow.matches || tab === "log") list.render();
  if (tab === "state") tree.render(model.state, model.past ? {} : model.client.versions);
  else parts[tab]?.render(model);
  if (tab === "state" && tree.isFresh) setTimeout(schedule, 200);
}

function drawHead() {
  const { phase, error } = model.client.health, told = phase === "live" || error === null ? phase : phase === "ended" ? "ended" : "reconnecting";
  say($("status"), told);
  $("status").className = told;
  say($("position"), model.client.position ?? "");
  const refused = phase === "ended" && error !== null, signin = refused && error.status === 401;
  $("signin").hidden = !(signin || signing);
  $("sign").hidden = signin || !(model.journal.authenticates || server.token);
  say($("sign"), server.token ? "Sign out" : "Sign in");
  const sentence = signin ? "This server needs to know who you are." : refused ? error.message : "";
  say($("notice"), visible(model.notice || sentence));
  const { shown, missed, paused, log, trace } = model, all = (trace?.entries ?? log).length;
  say($("count"), `${shown.length === all ? "" : `${number(shown.length)} of `}${plural(all, "change")}${paused ? `, ${number(missed)} more` : ""}`);
  $("pause").ariaPressed = String(paused);
  $("unskip").hidden = !model.skips;
}

function drawTime() {
  const { earliest, head, past, target } = model, slider = $("slider"), at = target ?? head;
  if (slider.min !== String(earliest)) slider.min = earliest;
  if (slider.max !== String(head)) slider.max = head;
  if (slider.value !== String(at)) slider.value = at;
  const { entry } = past ?? {}, when = entry ? `${moment(entry.timestamp)} · ${titleOf(entry)}` : "";
  const text = past ? `change ${number(past.seq)} of ${number(head)}${when ? ` · ${when}` : ""}` : `now · change ${number(head)}`;
  say($("moment"), visible(text));
  slider.ariaValueText = text;
  document.querySelector("footer").classList.toggle("past", past !== null);
  $("live").ariaPressed = String(target === null);
  $("back").disabled = at <= earliest;
  $("forth").disabled = $("play").disabled = target === null || at >= head;
  $("play").ariaPressed = String(playing !== null);
}

// tabs

function show(name) {
  if (tab !== name) parts[name]?.opened?.();
  tab = name;
  document.body.classList.toggle("log", tab === "log");
  for (const each of tabs) {
    each.ariaSelected = String(each.dataset.panel === tab);
    each.tabIndex = each.dataset.panel === tab ? 0 : -1;
    if (each.dataset.panel !== "log") $(each.dataset.panel).hidden = each.dataset.panel !== tab;
    if (each.dataset.panel === tab) each.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
  schedule();
}

for (const each of tabs) each.addEventListener("click", () => show(each.dataset.panel));
$("tabs").addEventListener("keydown", (event) => {
  const offered = tabs.filter(({ offsetParent }) => offsetParent !== null), at = offered.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + offered.length, Home: 0, End: offered.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  offered[to % offered.length].focus();
  show(document.activeElement.dataset.panel);
});
narrow.addEventListener("change", () => show(tab === "log" && !narrow.matches ? "state" : tab));

// the log and time

function jump() {
  if (model.selected !== null) void model.jump(model.selected);
}

const pin = () => model.selected && void model.setPin(model.pin?.entry === model.selected ? null : model.selected);
const skip = () => model.selected?.number !== undefined && model.skipTo(model.selected);
const step = (by) => (stop(), void model.goTo((model.target ?? model.head) + by));
const live = () => (stop(), model.live());

function repeat() {
  if (model.selected?.cause == null) return;
  show("dispatch");
  parts.dispatch.render();
  parts.dispatch.repeat(model.selected);
}

function play() {
  if (playing !== null) return stop();
  playing = setInterval(() => {
    if (model.target === null || model.target >= model.head) return live();
    void model.goTo(model.target + 1);
  }, PLAY_MS);
  schedule();
}

function stop() {
  clearInterval(playing);
  playing = null;
  schedule();
}

for (const [name, work] of Object.entries({ jump, pin, skip, repeat })) $("change").querySelector(`[name=${name}]`).addEventListener("click", work);
$("slider").addEventListener("input", () => (stop(), void model.goTo(Number($("slider").value))));
$("back").addEventListener("click", () => step(-1));
$("forth").addEventListener("click", () => step(1));
$("live").addEventListener("click", live);
$("play").addEventListener("click", play);
$("pause").addEventListener("click", () => model.pause(!model.paused));
$("unskip").addEventListener("click", () => model.skipNothing());

// keys

const KEYS = {
  "/": () => (narrow.matches && show("log"), $("filters").elements.text.focus()),
  j: () => list.move(1),
  k: () => list.move(-1),
  p: pin,
  s: skip,
  d: () => show("diff"),
  l: live,
  "[": () => step(-1),
  "]": () => step(1),
  " ": () => model.pause(!model.paused),
  "?": () => $("keys").showModal(),
  ...Object.fromEntries(["state", "change", "diff", "dispatch", "readers", "weights", "charts", "runs"].map((name, at) => [String(at + 1), () => show(name)])),
};

document.addEventListener("keydown", (event) => {
  const { key, target } = event, writes = target.closest("input:not([type=range]):not([type=radio]), select, textarea, dialog") !== null;
  if (key === "Escape" && target === $("filters").elements.text) return $("entries").focus();
  if (writes || !$("shortcuts").checked || event.altKey || event.ctrlKey || event.metaKey || !Object.hasOwn(KEYS, key)) return;
  if (key === " " && target.closest("button, summary, [type=radio]")) return;
  event.preventDefault();
  KEYS[key]();
});
$("help").addEventListener("click", () => $("keys").showModal());

// traces

$("export").addEventListener("click", async () => {
  try {
    const file = new Blob([await model.exported()], { type: "application/x-ndjson" }), link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `trace-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.jsonl`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    model.say(`the log cannot be exported: ${error.message}`);
  }
});
$("import").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (file === undefined) return;
  try {
    if (file.size > MAX_BYTES) throw new Error(`it has more than ${MAX_BYTES >> 20} MiB`);
    model.open(await file.text());
    const [name] = $("trace").children;
    say(name, visible(`This is the trace ${file.name}, not the server.`));
    $("trace").hidden = false;
  } catch (error) {
    model.say(`this file cannot be shown: ${error.message}`);
  }
  $("file").value = ""; // so that the same file can be chosen again
});
$("trace").querySelector("button").addEventListener("click", () => {
  $("trace").hidden = true;
  model.close();
});

// what is followed, and as whom

function follow(slices) {
  model.follow(slices);
  const { client } = model;
  client.ready.catch((error) => {
    if (client === model.client && slices === "*" && error.code === "too_large") {
      follow(undefined);
      model.say("There are too many slices to follow them all, so these are the plain ones. Name others above, such as room/*.");
    }
  });
  $("follow").elements.slices.value = slices ?? "";
  schedule();
}

$("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  const slices = $("follow").elements.slices.value.trim(), url = new URL(location.href);
  url.searchParams.set("slices", slices);
  history.replaceState(null, "", url);
  follow(slices || undefined);
});
$("signin").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    as(tokenOf($("token").value));
  } catch (error) {
    model.say(error.message);
  }
});
$("sign").addEventListener("click", () => {
  if (server.token) return as("");
  signing = !signing;
  draw();
  $("token").focus();
});

/** Begins anew with a token, or without one if it is empty. Nothing stays that somebody else has seen. */
function as(token) {
  sessionStorage.setItem(TOKEN, token);
  location.reload();
}

server.token = sessionStorage.getItem(TOKEN) ?? "";
follow(query.has("slices") ? query.get("slices") || undefined : "*");
show(tab);
setInterval(schedule, TICK_MS);
