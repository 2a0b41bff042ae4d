/* operators.js: readers and weights, which only somebody with the right to them sees.
 *
 * Invariants: the server is asked only while a tab is shown: for readers a second after its last answer, for weights on
 * request. No table has two requests under way. What the server refuses is explained in place of the table, and not asked
 * for again before a minute has passed or the tab is opened again.
 */
import { number, plural, size, visible } from "./format.js";
import { made, say } from "./rows.js";

const AGAIN_MS = 1_000;
const REFUSED_MS = 60_000;
const UNKNOWN = "—";

class Table {
  #asks = false;
  #refused = false;
  #timer = null; // until it may ask by itself again

  /** `long`: the column whose texts may be long. */
  constructor(element, model, long) {
    [this.element, this.model, this.long] = [element, model, long];
    this.status = element.querySelector("[role=status]");
    this.body = element.querySelector("tbody");
  }

  get waits() {
    return this.#asks || this.#timer !== null;
  }

  isShown = () => !this.element.hidden && document.visibilityState === "visible";

  /** The tab was opened: what was refused may be allowed by now. */
  opened() {
    if (this.#refused) this.#stop();
  }

  /** Loads the rows, unless that is under way. */
  async ask() {
    if (this.#asks) return;
    this.#stop();
    [this.#asks, this.#refused] = [true, false];
    try {
      await this.load();
    } catch (error) {
      this.#refused = error.status >= 400 && error.status < 500;
      this.refused(error);
    }
    this.#asks = false;
    this.#timer = setTimeout(() => (this.#stop(), this.isShown() && this.render()), this.#refused ? REFUSED_MS : AGAIN_MS);
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  fill(rows) {
    this.element.querySelector("table").hidden = !rows.length;
    rows.forEach((cells, at) => {
      const row = this.body.rows[at] ?? this.body.insertRow();
      cells.forEach((text, column) => say(row.cells[column] ?? this.#cell(row, column), visible(text)));
    });
    while (this.body.rows.length > rows.length) this.body.lastElementChild.remove();
  }

  #cell(row, column) {
    return Object.assign(row.insertCell(), { className: this.long === column ? "long" : "" });
  }

  refused(error) {
    this.fill([]);
    say(this.status, error.status === 403 || error.status === 401 ? "This needs the right that create_app(inspect=…) gives." : error.message);
  }
}

/** Who follows what, and how far behind. */
export class Readers extends Table {
  constructor(element, model) {
    super(element, model, 1);
  }

  render() {
    if (!this.waits) void this.ask();
  }

  async load() {
    const { readers, more } = await this.model.server.json("inspect/readers");
    say(this.status, `${plural(readers.length, "stream", more)} of this process. Those that are farthest behind come first.`);
    this.fill(readers.map(rowOf));
  }
}

function rowOf({ subject, slices, others, state, position, lag_changes, lag_seconds, waiting_bytes, sent_bytes }) {
  const follows = slices.join(", ") + (others ? ` and ${number(others)} more` : "");
  const lag = lag_changes || lag_seconds ? `${number(lag_changes)} changes, ${lag_seconds.toFixed(1)} s` : "none";
  const bytes = (count) => (count === null ? UNKNOWN : size(count));
  return [subject ?? "anybody", follows, state, position ?? UNKNOWN, lag, bytes(waiting_bytes), bytes(sent_bytes)];
}

/** What slices take in memory and in the journal. */
export class Weights extends Table {
  #known = false;

  constructor(element, model) {
    super(element, model);
    element.querySelector("button").addEventListener("click", () => void this.ask());
  }

  render() {
    if (!this.#known && !this.waits) void this.ask();
  }

  async load() {
    this.#known = false;
    say(this.status, "weighing …");
    const { slices, since, until, whole } = await this.model.server.json("inspect/weights");
    this.#known = true;
    const part = whole ? "the whole journal" : `the journal since ${since}`;
    say(this.status, `Changes are those of ${part}, up to ${until}.`);
    slices.sort((a, b) => b.memory_bytes + b.history_bytes - a.memory_bytes - a.history_bytes);
    this.fill(slices.map((each) => [
      each.slice, number(each.instances), number(each.loaded), size(each.memory_bytes), number(each.changes), size(each.history_bytes),
    ]));
  }
}
