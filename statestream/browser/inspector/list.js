/* list.js: the log as a list, with its filters.
 *
 * Invariants: it is drawn from the model, and keeps only where the keyboard is. While the newest entry is in view, the
 * list follows it; whoever has scrolled away stays where they are.
 */
import { age, size, visible } from "./format.js";
import { bytesOfEntry } from "./log.js";
import { summary, titleOf } from "./pointer.js";
import { made, Rows, say } from "./rows.js";

const HEIGHT = 46;

export class List {
  #model;
  #rows;
  #follows = true;
  #past = null; // the moment that was brought into view
  #filters;
  #offered = { slice: 0, action: 0, actor: 0 };

  constructor(viewport, filters, model, { onChange, onJump }) {
    [this.#model, this.#filters] = [model, filters];
    this.#rows = new Rows(viewport, { height: HEIGHT, role: "option", draw: (row, index) => this.#draw(row, index), onMove: onChange });
    viewport.addEventListener("scroll", () => (this.#follows = this.#rows.atEnd), { passive: true });
    viewport.addEventListener("click", (event) => this.go(this.#rows.indexOf(event)));
    viewport.addEventListener("dblclick", (event) => this.#rows.indexOf(event) >= 0 && onJump());
    viewport.addEventListener("keydown", (event) => this.#pressed(event, onJump));
    filters.addEventListener("input", () => this.#filtered());
    filters.addEventListener("submit", (event) => event.preventDefault());
  }

  // filters

  #filtered() {
    const { text, slice, action, actor } = this.#filters.elements;
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.#model.setFilter({ words, slice: slice.value, action: action.value, actor: actor.value });
    this.#follows = true;
  }

  /** Offers the names that have occurred, unless somebody is choosing. */
  #offer(kind) {
    const select = this.#filters.elements[kind], names = this.#model.known[kind];
    if (this.#offered[kind] === names.size || document.activeElement === select) return;
    const [all] = select.options, chosen = select.value;
    const options = [...names].sort().map((name) => made("option", { value: name, textContent: visible(name) }));
    select.replaceChildren(all, ...options);
    select.value = chosen;
    this.#offered[kind] = names.size;
  }

  // rows

  render() {
    const { shown, selected, vanished } = this.#model;
    for (const kind of ["slice", "action", "actor"]) this.#offer(kind);
    this.#model.vanished = 0;
    this.#rows.count = shown.length;
    this.#rows.active = selected === null ? -1 : this.#indexOf(selected);
    this.#reveal();
    this.#rows.render({ toEnd: this.#follows, vanished });
  }

  /** Brings the entry into view that somebody has gone to in time. */
  #reveal() {
    const { past } = this.#model;
    if (past === this.#past) return;
    this.#past = past;
    const index = past?.entry ? this.#indexOf(past.entry) : -1;
    if (past === null) this.#follows = true;
    else if (index >= 0) [this.#follows] = [false, this.#rows.go(index)];
  }

  /** Entries are in the order of their numbers; one of the past that is not in the log has none. */
  #indexOf({ number, version }) {
    const { shown } = this.#model;
    let [low, high] = [0, shown.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (number === undefined ? shown[middle].version < version : shown[middle].number < number) low = middle + 1;
      else high = middle;
    }
    const found = shown[low];
    return found !== undefined && (number === undefined ? found.version === version : found.number === number) ? low : -1;
  }

  #draw(element, index) {
    const entry = this.#model.shown[index], parts = element.parts ?? this.#build(element);
    const { pin, past, selected } = this.#model;
    element.classList.toggle("pinned", pin?.entry === entry);
    element.classList.toggle("here", past?.entry?.position === entry.position);
    element.ariaSelected = String(entry === selected || index === this.#rows.active);
    element.ariaPosInSet = index + 1;
    element.ariaSetSize = this.#model.shown.length;
    const { cause, slice, timestamp } = entry;
    say(parts.type, visible(titleOf(entry)));
    say(parts.slice, visible(slice ?? ""));
    say(parts.summary, summary(entry));
    say(parts.more, [cause?.actor, entry.kind === "initial" ? "" : size(bytesOfEntry(entry)), timestamp ? age(Date.now() - timestamp) : ""].filter(Boolean).map((text) => visible(text)).join(" · "));
  }

  #build(element) {
    const [type, slice, summary, more] = ["type", "slice", "summary", "more"].map((className) => made("span", { className }));
    element.append(made("span", { className: "line" }, type, slice), made("span", { className: "line" }, summary, more));
    return (element.parts = { type, slice, summary, more });
  }

  // what people do

  /** Selects an entry, and brings it into view. */
  go(index) {
    const { shown } = this.#model;
    if (index < 0 || !shown.length) return;
    this.#follows = index >= shown.length - 1;
    this.#rows.go(index);
    this.#model.select(shown[this.#rows.active]);
  }

  /** Selects the entry that is so many further on; without a selection, the newest. */
  move(by) {
    const { selected, shown } = this.#model, index = selected === null ? -1 : this.#indexOf(selected);
    this.go(Math.min(Math.max(0, index < 0 ? shown.length - 1 : index + by), shown.length - 1));
  }

  #pressed(event, onJump) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { page } = this.#rows, { length } = this.#model.shown;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -length, End: length };
    if (event.key in moves) this.move(moves[event.key]);
    else if (event.key === "Enter") onJump();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
