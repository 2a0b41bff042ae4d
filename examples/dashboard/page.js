/* page.js: follows the slice `host`, and draws what it contains. */
import { connect } from "/js/statestream.js";
import { Chart } from "./chart.js";

const PHASES = { connecting: "Connecting", live: "Live", waiting: "Reconnecting", ended: "Disconnected" };
const QUIET_SECONDS = 5; // without a sample, after which the page says so

const element = (id) => document.getElementById(id);
const percent = (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`;
const clock = (at) => new Date(at).toLocaleTimeString();

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(value, 1)) / 3)));
  const number = value / 1000 ** step;
  return `${number.toFixed(step > 0 && number < 10 ? 1 : 0)} ${units[step]}`;
}

const rate = (value) => `${bytes(value)}/s`;

const charts = [
  new Chart({ title: "CPU", series: { cpu: "All cores" }, format: percent, top: 100 }),
  new Chart({ title: "Memory", series: { memory: "Used" }, format: percent, top: 100 }),
  new Chart({ title: "Network", series: { received: "Received", sent: "Sent" }, format: rate }),
  new Chart({ title: "Disk", series: { read: "Read", written: "Written" }, format: rate }),
];
element("charts").append(...charts.map((chart) => chart.element));
// One moment is shown in all of them.
for (const chart of charts) chart.onPoint = (at) => charts.forEach((each) => each.point(at));

// Redrawn once per frame at most, however fast samples arrive; and only if the slice has changed.
const client = connect("/", { slices: ["host"] });
let arrived = performance.now();

client.select((state) => state.host, (host) => {
  arrived = performance.now();
  if (host.name) {
    element("name").textContent = document.title = host.name;
    element("about").textContent = `${host.cores} ${host.cores === 1 ? "core" : "cores"}, ${bytes(host.memory)} of memory`;
  }
  for (const chart of charts) chart.draw(host.samples);
  fillTable(host.samples);
  notice();
});

client.subscribe(() => {
  const { phase, error } = client.health;
  element("status").className = phase;
  element("status").textContent = PHASES[phase];
  if (phase === "ended") element("notice").textContent = error?.detail ?? "";
});

/** Says what to do if no samples arrive: the charts stand still, and people should know why. */
function notice() {
  const samples = client.state.host?.samples ?? [], seconds = Math.round((performance.now() - arrived) / 1000);
  if (client.health.phase !== "live") return;
  let text = "";
  if (samples.length === 0) text = "Nothing has been measured yet: start producer.py.";
  else if (seconds >= QUIET_SECONDS) text = `The producer has been silent since ${clock(samples.at(-1).at)}.`;
  if (element("notice").textContent !== text) element("notice").textContent = text;
}
setInterval(notice, 1000);

const details = document.querySelector("details");
details.ontoggle = () => fillTable(client.state.host?.samples ?? []);
for (const { title, label } of charts.flatMap(({ title, series }) => Object.values(series).map((label) => ({ title, label })))) {
  const head = Object.assign(document.createElement("th"), { scope: "col", textContent: `${title}: ${label.toLowerCase()}` });
  details.querySelector("thead tr").append(head);
}

/** The text alternative of the charts. */
function fillTable(samples) {
  if (!details.open) return;
  const rows = samples.slice(-10).reverse().map((sample) => {
    const row = document.createElement("tr");
    row.insertCell().textContent = clock(sample.at);
    for (const { series, format } of charts) for (const key of Object.keys(series)) row.insertCell().textContent = format(sample[key]);
    return row;
  });
  details.querySelector("tbody").replaceChildren(...rows);
}
