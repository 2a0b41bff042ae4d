/* charts.js: figures of the last minutes: changes, bytes and latencies.
 *
 * Changes and bytes are counted where they arrive. Latencies are those of the server, from the histograms of
 * `GET /metrics`, which are read only while the charts are shown.
 *
 * Invariants: a figure a second, and so many of them. A chart is a picture with a text that says the same.
 */
import { duration, number, size } from "./format.js";
import { say } from "./rows.js";

const SECONDS = 120;
const METRICS_MS = 2_000;
const WIDTH = 360, HEIGHT = 80;
const SVG = "http://www.w3.org/2000/svg";
const LATENCIES = {
  dispatch: "statestream_dispatch_seconds",
  append: "statestream_journal_append_seconds",
  socket: "statestream_commit_to_socket_seconds",
};
const QUANTILES = [0.5, 0.99];

export class Charts {
  #element;
  #model;
  #figures = { changes: [], bytes: [], dispatch: [], append: [], socket: [] };
  #last = { changes: 0, bytes: 0 };
  #buckets = new Map();
  #asked = 0;
  #drawn = 0;
  #tick = 0;

  constructor(element, model, onChange) {
    [this.#element, this.#model] = [element, model];
    setInterval(() => {
      this.#count();
      if (!element.hidden && document.visibilityState === "visible") onChange();
    }, 1_000);
  }

  #count() {
    const { changes, server } = this.#model, now = { changes, bytes: server.received };
    for (const name of ["changes", "bytes"]) this.#push(name, [now[name] - this.#last[name]]);
    this.#last = now;
    this.#tick += 1;
  }

  #push(name, values) {
    const figures = this.#figures[name];
    figures.push(values);
    if (figures.length > SECONDS) figures.shift();
  }

  render() {
    if (performance.now() - this.#asked > METRICS_MS) void this.#ask();
    if (this.#drawn === this.#tick) return;
    this.#drawn = this.#tick;
    this.#draw("changes", (value) => `${number(value)} a second`);
    this.#draw("bytes", (value) => `${size(value)} a second`);
    for (const name of Object.keys(LATENCIES)) this.#draw(name, duration);
  }

  async #ask() {
    this.#asked = performance.now();
    try {
      const text = await this.#model.server.text("metrics");
      for (const [name, metric] of Object.entries(LATENCIES)) this.#measure(name, bucketsOf(text, metric));
      say(this.#element.querySelector("[role=status]"), "");
    } catch (error) {
      say(this.#element.querySelector("[role=status]"), `The latencies cannot be read: ${error.message}`);
    }
  }

  /** The quantiles of what was observed since the last time. */
  #measure(name, buckets) {
    const before = this.#buckets.get(name);
    this.#buckets.set(name, buckets);
    if (before === undefined) return;
    const fresh = buckets.map(([bound, count], at) => [bound, count - (before[at]?.[1] ?? 0)]), total = fresh.at(-1)?.[1] ?? 0;
    if (total > 0) this.#push(name, QUANTILES.map((part) => 1000 * quantile(fresh, part * total)));
  }

  #draw(name, text) {
    const figure = this.#element.querySelector(`[data-chart=${name}]`), figures = this.#figures[name];
    const [caption, picture] = figure.children, last = figures.at(-1) ?? [], highest = Math.max(1e-9, ...figures.flat());
    const told = !last.length ? "nothing measured yet" : last.length === 1
      ? `${text(last[0])}, at most ${text(highest)}`
      : `half within ${text(last[0])}, 99 % within ${text(last[1])}`;
    say(caption.querySelector("output"), told);
    last.forEach((_, line) => {
      const path = picture.children[line] ?? picture.appendChild(document.createElementNS(SVG, "polyline"));
      path.setAttribute("points", pointsOf(figures.map((each) => each[line] / highest)));
    });
  }
}

const pointsOf = (parts) =>
  parts.map((part, at) => `${(WIDTH - (parts.length - 1 - at) * (WIDTH / (SECONDS - 1))).toFixed(1)},${(HEIGHT - 2 - part * (HEIGHT - 6)).toFixed(1)}`).join(" ");

/** The cumulative counts of a histogram in the text of Prometheus, over all workers: [[bound, count], …]. */
function bucketsOf(text, metric) {
  const found = new Map();
  for (const [, labels, count] of text.matchAll(new RegExp(`^${metric}_bucket\\{([^}]*)\\} (\\S+)$`, "gm"))) {
    const bound = Number(/le="([^"]*)"/.exec(labels)[1].replace("+Inf", "Infinity"));
    found.set(bound, (found.get(bound) ?? 0) + Number(count));
  }
  return [...found].sort(([a], [b]) => a - b);
}

/** Within a bucket, values are taken to lie evenly. */
function quantile(buckets, rank) {
  let [below, least] = [0, 0];
  for (const [bound, count] of buckets) {
    if (count >= rank) return bound === Infinity ? least : least + (bound - least) * ((rank - below) / Math.max(1, count - below));
    [below, least] = [count, bound];
  }
  return least;
}
