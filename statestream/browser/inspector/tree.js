/* tree.js: the state as a tree of rows, in which what has just changed is highlighted.
 *
 * Invariants: only rows that are open are made, and made again only for slices whose value is another one. A container
 * shows so many members at first, and more on request. Highlights end by themselves, and there are so many at most.
 */
import { isContainer } from "../sharing.js";
import { diff } from "./diff.js";
import { indented, preview, number, visible } from "./format.js";
import { at, idOf, pointerOf, segmentsOf } from "./pointer.js";
import { made, Rows, say } from "./rows.js";

const HEIGHT = 26;
const MEMBERS = 200; // of a container that are shown at first
const OPENED = 30; // slices up to which each is open at first
const FRESH_MS = 1_500;
const MARKS = 4_000;
const LOOKED_AT = 40; // differences of a value that came whole

export class Tree {
  #rows;
  #list;
  #state = {};
  #versions = {};
  #toggled = new Map(); // by id: whether it is open
  #more = new Map(); // by id: how many members are shown
  #made = new Map(); // by slice: {value, rows}
  #fresh = new Map(); // by id: {kind, until}
  #marks = 0;
  #detail;
  #onMove;

  constructor(viewport, detail, onMove) {
    [this.#list, this.#detail, this.#onMove] = [[], detail, onMove];
    this.#rows = new Rows(viewport, { height: HEIGHT, role: "treeitem", draw: (row, index) => this.#draw(row, index), onMove });
    viewport.addEventListener("click", (event) => this.#clicked(event));
    viewport.addEventListener("keydown", (event) => this.#pressed(event));
    viewport.addEventListener("focus", () => this.#rows.active < 0 && this.#rows.go(0));
  }

  // highlights

  /** Marks the places that updates have changed. */
  mark(updates, before, after) {
    const until = performance.now() + FRESH_MS;
    for (const update of updates.slice(-MARKS)) {
      const { kind, slice, patches } = update;
      if (kind === "patches") for (const { op, path } of patches) this.#markPlace(slice, segmentsOf(path), op, until);
      else if (kind === "value") this.#markWhole(slice, before, after, until);
    }
    while (this.#fresh.size > MARKS) this.#fresh.delete(this.#fresh.keys().next().value);
  }

  #markWhole(slice, before, after, until) {
    if (!Object.hasOwn(before, slice) || !Object.hasOwn(after, slice)) return this.#markPlace(slice, [], "add", until);
    for (const { segments, kind } of diff(before[slice], after[slice], LOOKED_AT).found)
      this.#markPlace(slice, segments, { added: "add", removed: "remove", changed: "replace" }[kind], until);
  }

  #markPlace(slice, segments, op, until) {
    const kind = { add: "added", remove: "removed" }[op] ?? "changed";
    if (kind === "removed") segments = segments.slice(0, -1); // what is gone cannot be shown; where it was can
    this.#set(idOf(slice, segments), kind, until);
    for (let depth = segments.length - 1; depth >= 0; depth -= 1) this.#set(idOf(slice, segments.slice(0, depth)), "within", until);
  }

  #set(id, kind, until) {
    const known = this.#fresh.get(id);
    this.#fresh.delete(id); // the newest are last
    this.#fresh.set(id, { kind: kind === "within" && known ? known.kind : kind, until });
  }

  /** Whether something is highlighted, so that it must be drawn again later. Forgets what is over. */
  get isFresh() {
    const now = performance.now();
    for (const [id, { until }] of this.#fresh) if (until < now) this.#fresh.delete(id);
    return this.#fresh.size > 0;
  }

  // rows

  render(state, versions) {
    if (state !== this.#state || this.#made.size === 0) this.#flatten(state);
    this.#versions = versions;
    this.#rows.count = this.#list.length;
    this.#rows.render();
    this.#tell();
  }

  #flatten(state) {
    const names = Object.keys(state).sort(), opened = names.length <= OPENED, made = new Map();
    for (const name of names) {
      const known = this.#made.get(name);
      made.set(name, known?.value === state[name] && known.opened === opened ? known : { value: state[name], opened, rows: this.#rowsOf(name, state[name], opened) });
    }
    this.#made = made;
    this.#state = state;
    this.#list = [...made.values()].flatMap(({ rows }) => rows);
  }

  #rowsOf(slice, value, opened) {
    const rows = [];
    this.#walk({ slice, segments: [], name: slice, value }, 1, opened, rows);
    return rows;
  }

  #walk(place, level, opened, rows) {
    const { slice, segments, value } = place, id = idOf(slice, segments), container = isContainer(value);
    const names = container ? (Array.isArray(value) ? null : Object.keys(value)) : [];
    const count = names === null ? value.length : names.length;
    const open = count > 0 && (this.#toggled.get(id) ?? opened);
    rows.push({ ...place, id, level, container, count, open });
    if (!open) return;
    const shown = Math.min(count, this.#more.get(id) ?? MEMBERS);
    for (let index = 0; index < shown; index += 1) {
      const name = names === null ? String(index) : names[index];
      this.#walk({ slice, segments: [...segments, name], name, value: value[name] }, level + 1, false, rows);
    }
    if (shown < count) rows.push({ slice, segments, id: `${id}\nmore`, level: level + 1, more: id, left: count - shown });
  }

  #again(slice) {
    this.#made.delete(slice);
    this.#flatten(this.#state);
    this.#onMove();
  }

  // drawing

  #draw(element, index) {
    const row = this.#list[index], parts = element.parts ?? this.#build(element);
    const mark = this.#fresh.get(row.id), fresh = mark !== undefined && (mark.kind !== "within" || !row.open) ? mark.kind : "";
    const [name, value] = row.more ? ["", `… ${number(row.left)} more`] : [row.name, row.open ? sizeOf(row) : preview(row.value)];
    element.dataset.fresh = fresh;
    element.dataset.type = row.more ? "more" : row.value === null ? "null" : typeof row.value;
    element.style.paddingInlineStart = `${row.level * 14}px`;
    element.ariaLevel = row.level;
    element.ariaExpanded = row.container && row.count ? String(row.open) : null;
    say(parts.sign, row.container && row.count ? (row.open ? "▾" : "▸") : "");
    say(parts.name, visible(name));
    say(parts.value, value);
    const version = row.level === 1 && Object.hasOwn(this.#versions, row.slice) ? `version ${this.#versions[row.slice]}` : "";
    say(parts.version, version);
  }

  #build(element) {
    const sign = made("span", { className: "sign", ariaHidden: "true" }), name = made("span", { className: "name" });
    const value = made("span", { className: "value" }), version = made("span", { className: "version" });
    element.append(sign, name, value, version);
    return (element.parts = { sign, name, value, version });
  }

  /** Says in full what the row contains at which the keyboard is. */
  #tell() {
    const row = this.#list[this.#rows.active];
    this.#detail.hidden = row === undefined || row.more !== undefined;
    if (this.#detail.hidden || (this.told?.value === row.value && this.told.id === row.id)) return;
    this.told = row;
    const [path, text] = this.#detail.children;
    say(path, visible(`${row.slice} ${pointerOf(row.segments)}`));
    say(text, indented(at(this.#state[row.slice], row.segments)));
  }

  // what people do

  #clicked(event) {
    const index = this.#rows.indexOf(event);
    if (index < 0) return;
    this.#rows.go(index);
    this.#toggle(this.#list[index]);
  }

  #toggle(row, open = !row.open) {
    if (row.more) this.#more.set(row.more, (this.#more.get(row.more) ?? MEMBERS) + MEMBERS);
    else if (row.container) this.#toggled.set(row.id, open);
    this.#again(row.slice);
  }

  #pressed(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { active, page } = this.#rows, row = this.#list[active];
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: this.#list.length };
    if (event.key in moves) this.#rows.go(active + moves[event.key]);
    else if (row === undefined) return;
    else if (event.key === "Enter" || event.key === " ") this.#toggle(row);
    else if (event.key === "ArrowRight" && row.container && !row.open) this.#toggle(row, true);
    else if (event.key === "ArrowRight") this.#rows.go(active + 1);
    else if (event.key === "ArrowLeft" && row.open) this.#toggle(row, false);
    else if (event.key === "ArrowLeft") this.#rows.go(this.#list.findLastIndex((each, at) => at < active && each.level < row.level));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

const sizeOf = ({ value, count }) => (Array.isArray(value) ? `[${number(count)}]` : `{${number(count)}}`);
