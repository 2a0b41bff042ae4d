/* chart.js: a line chart of the last two minutes in SVG, with a crosshair for the pointer and for the arrow keys.
 *
 * To assistive technology, the plot is a slider: it has a name, and its value is the moment under the crosshair.
 */
const HEIGHT = 180, LEFT = 62, RIGHT = 12, TOP = 8, BOTTOM = 24;
const SPAN = 120_000; // ms from left to right
const GAP = 5_000; // ms without a sample, after which a line is interrupted

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function svg(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** The next of 1, 2, 5, 10, 20, 50 …, so that the axis has round numbers. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}

export class Chart {
  onPoint = () => {};
  #samples = [];
  #at = null; // the moment under the crosshair
  #when = html("time");
  #values = html("dl");
  #plot;

  /** `series`: the label of each key of a sample. `top`: the end of the axis; without it, the axis fits the values. */
  constructor({ title, series, format, top }) {
    Object.assign(this, { title, series, format, top });
    const empty = { "aria-valuemin": 0, "aria-valuenow": 0, "aria-valuetext": "nothing measured yet" };
    const slider = { role: "slider", tabindex: 0, "aria-label": `${title}, the last two minutes`, ...empty };
    this.#plot = html("div", { class: "plot", ...slider });
    this.element = html("figure", {}, html("figcaption", {}, html("h2", {}, title), this.#when, this.#values), this.#plot);
    this.#plot.onpointermove = ({ offsetX }) => this.onPoint(this.#nearest(offsetX)?.at ?? null);
    this.#plot.onpointerleave = this.#plot.onblur = () => this.onPoint(null);
    this.#plot.onkeydown = (event) => this.#press(event);
    new ResizeObserver(() => this.#render()).observe(this.#plot);
  }

  draw(samples) {
    this.#samples = samples;
    this.#render();
  }

  point(at) {
    this.#at = at;
    this.#render();
  }

  #press(event) {
    const last = this.#samples.length - 1, here = this.#at === null ? last : this.#samples.findIndex(({ at }) => at === this.#at);
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, PageUp: here - 10, PageDown: here + 10, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.onPoint(null);
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.onPoint(this.#samples[Math.min(last, Math.max(0, to))].at);
  }

  #nearest(x) {
    const distance = (sample) => Math.abs(this.#x(sample) - x);
    return this.#samples.reduce((best, sample) => (best && distance(best) < distance(sample) ? best : sample), undefined);
  }

  #x({ at }) {
    return LEFT + (1 - (this.#samples.at(-1).at - at) / SPAN) * (this.#plot.clientWidth - LEFT - RIGHT);
  }

  #render() {
    const keys = Object.keys(this.series), samples = this.#samples, width = this.#plot.clientWidth;
    if (width === 0) return;
    const highest = this.top ?? roundUp(Math.max(1000, ...samples.flatMap((sample) => keys.map((key) => sample[key]))));
    const y = (value) => TOP + (1 - value / highest) * (HEIGHT - TOP - BOTTOM);
    const picture = svg("svg", { width, height: HEIGHT, "aria-hidden": true });
    picture.append(...this.#axes(highest, y, width));
    for (const [number, key] of keys.entries()) picture.append(...this.#lines(key, number, y));
    const marked = samples.find(({ at }) => at === this.#at) ?? samples.at(-1);
    if (marked) picture.append(...this.#marks(marked, keys, y));
    this.#plot.replaceChildren(picture);
    if (marked) this.#say(marked, keys);
  }

  #axes(highest, y, width) {
    const rows = [0, highest / 2, highest].flatMap((value) => [
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, this.format(value).replace(".0 ", " ")),
    ]);
    const place = { y: HEIGHT - 6, class: "time" }, middle = (LEFT + width - RIGHT) / 2;
    const times = [[LEFT, "−2 min", "start"], [middle, "−1 min", "middle"], [width - RIGHT, "now", "end"]];
    return [...rows, ...times.map(([x, text, anchor]) => svg("text", { ...place, x, "text-anchor": anchor }, text))];
  }

  /** A line and the area below it, for each run of samples without a gap. */
  #lines(key, number, y) {
    const runs = [];
    let before = -Infinity;
    for (const sample of this.#samples) {
      if (sample.at - before > GAP) runs.push([]);
      runs.at(-1).push([this.#x(sample).toFixed(1), y(sample[key]).toFixed(1)]);
      before = sample.at;
    }
    return runs.flatMap((run) => {
      const line = `M${run.map((point) => point.join()).join("L")}`;
      const area = `${line}L${run.at(-1)[0]},${y(0)}L${run[0][0]},${y(0)}Z`;
      return [svg("path", { class: `area s${number}`, d: area }), svg("path", { class: `line s${number}`, d: line })];
    });
  }

  #marks(marked, keys, y) {
    const x = this.#x(marked);
    const dots = keys.map((key, number) => svg("circle", { class: `s${number}`, cx: x, cy: y(marked[key]), r: 4 }));
    return this.#at === null ? dots : [svg("line", { class: "cross", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }), ...dots];
  }

  /** The values of the moment, for everybody: large above the chart, and as the value of the slider. */
  #say(marked, keys) {
    const when = this.#at === null ? "now" : new Date(marked.at).toLocaleTimeString();
    const values = keys.map((key) => [this.series[key], this.format(marked[key])]);
    this.#when.textContent = when;
    this.#values.replaceChildren(...values.map(([label, value], number) =>
      html("div", { class: `s${number}` }, html("dt", {}, label), html("dd", {}, value))));
    this.#plot.setAttribute("aria-valuemax", this.#samples.length - 1);
    this.#plot.setAttribute("aria-valuenow", this.#samples.indexOf(marked));
    this.#plot.setAttribute("aria-valuetext", `${when}: ${values.map((pair) => pair.join(" ")).join(", ")}`);
  }
}
