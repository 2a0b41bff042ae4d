/* operators.js: readers and weights, which only somebody with the right to them sees.
 *
 * Invariants: the server is asked only while a tab is shown, once a second for readers and on request for weights. What
 * it refuses is explained in place of the table.
 */
import { number, plural, size, visible } from "./format.js";
import { made, say } from "./rows.js";

const AGAIN_MS = 1_000;
const UNKNOWN = "—";

class Table {
  /** `long`: the column whose texts may be long. */
  constructor(element, model, long) {
    [this.element, this.model, this.long] = [element, model, long];
    this.status = element.querySelector("[role=status]");
    this.body = element.querySelector("tbody");
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
  #timer = null;

  constructor(element, model) {
    super(element, model, 1);
  }

  render() {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => ((this.#timer = null), this.isShown() && this.render()), AGAIN_MS);
    void this.#ask();
  }

  isShown = () => !this.element.hidden && document.visibilityState === "visible";

  async #ask() {
    try {
      const { readers, more } = await this.model.server.json("inspect/readers");
      say(this.status, `${plural(readers.length, "stream", more)} of this process. Those that are farthest behind come first.`);
      this.fill(readers.map(rowOf));
    } catch (error) {
      this.refused(error);
    }
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
  #asked = false;

  constructor(element, model) {
    super(element, model);
    element.querySelector("button").addEventListener("click", () => void this.#ask());
  }

  render() {
    if (!this.#asked) void this.#ask();
  }

  async #ask() {
    this.#asked = true;
    say(this.status, "weighing …");
    try {
      const { slices, since, until, whole } = await this.model.server.json("inspect/weights");
      const part = whole ? "the whole journal" : `the journal since ${since}`;
      say(this.status, `Changes are those of ${part}, up to ${until}.`);
      slices.sort((a, b) => b.memory_bytes + b.history_bytes - a.memory_bytes - a.history_bytes);
      this.fill(slices.map((each) => [
        each.slice, number(each.instances), number(each.loaded), size(each.memory_bytes), number(each.changes), size(each.history_bytes),
      ]));
    } catch (error) {
      this.#asked = false;
      this.refused(error);
    }
  }
}
