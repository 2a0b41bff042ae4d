/* rows.js: a list of any length, of which only the rows that can be seen are elements.
 *
 * Invariants: all rows have one height. Elements are reused. The place of the list is read when it is scrolled or resized,
 * not when it is drawn, so that drawing never makes the browser compute a layout.
 */

const BEYOND = 4; // rows above and below those that can be seen

export class Rows {
  count = 0;
  active = -1; // the row that the keyboard is at
  #viewport;
  #sizer;
  #height;
  #draw;
  #onMove;
  #pool = [];
  #top = 0;
  #seen = 0;

  /** `draw(element, index)` fills a row; `onMove()` is called after it was scrolled, to be drawn again. */
  constructor(viewport, { height, role, draw, onMove }) {
    [this.#viewport, this.#height, this.#draw, this.#onMove, this.role] = [viewport, height, draw, onMove, role];
    this.#sizer = viewport.appendChild(document.createElement("div"));
    this.#sizer.className = "sizer";
    this.#sizer.role = "presentation";
    viewport.addEventListener("scroll", () => this.#moved(), { passive: true });
    new ResizeObserver(([{ contentRect }]) => ((this.#seen = contentRect.height), onMove())).observe(viewport);
  }

  #moved() {
    this.#top = this.#viewport.scrollTop;
    this.#onMove();
  }

  get atEnd() {
    return this.#top + this.#seen >= this.count * this.#height - this.#height;
  }

  get page() {
    return Math.max(1, Math.floor(this.#seen / this.#height) - 1);
  }

  /** Draws `count` rows. `stay`: so many rows have vanished from the beginning, but what is seen stays. */
  render({ toEnd = false, vanished = 0 } = {}) {
    const height = this.count * this.#height;
    if (this.#sizer.dataset.height !== String(height)) {
      this.#sizer.style.height = `${height}px`;
      this.#sizer.dataset.height = height;
    }
    if (toEnd) this.#scroll(Math.max(0, height - this.#seen));
    else if (vanished) this.#scroll(Math.max(0, this.#top - vanished * this.#height));
    const first = Math.max(0, Math.floor(this.#top / this.#height) - BEYOND);
    const last = Math.min(this.count, Math.ceil((this.#top + this.#seen) / this.#height) + BEYOND);
    let used = 0;
    for (let index = first; index < last; index += 1, used += 1) this.#place(this.#pool[used] ?? this.#add(), index);
    for (const row of this.#pool.slice(used)) row.hidden = true;
    const active = this.active >= first && this.active < last ? this.#pool[this.active - first].id : "";
    if (active) this.#viewport.setAttribute("aria-activedescendant", active);
    else this.#viewport.removeAttribute("aria-activedescendant");
  }

  #scroll(top) {
    if (top === this.#top) return;
    this.#top = top;
    this.#viewport.scrollTop = top;
  }

  #place(row, index) {
    row.hidden = false;
    if (row.dataset.index !== String(index)) {
      row.dataset.index = index;
      row.style.transform = `translateY(${index * this.#height}px)`;
    }
    row.classList.toggle("active", index === this.active);
    this.#draw(row, index);
  }

  #add() {
    const row = this.#sizer.appendChild(document.createElement("div"));
    [row.className, row.role, row.id] = ["row", this.role, `${this.#viewport.id}-${this.#pool.length}`];
    row.style.height = `${this.#height}px`;
    this.#pool.push(row);
    return row;
  }

  /** Moves the keyboard to a row, and the row into view. */
  go(index) {
    this.active = Math.min(Math.max(0, index), this.count - 1);
    const top = this.active * this.#height;
    if (top < this.#top) this.#scroll(top);
    else if (top + this.#height > this.#top + this.#seen) this.#scroll(top + this.#height - this.#seen);
    this.#onMove();
  }

  /** The row that an event is about; -1 for none. */
  indexOf(event) {
    const row = event.target.closest(".row");
    return row === null ? -1 : Number(row.dataset.index);
  }
}

/** Sets a text if it is another one: an element that is not touched costs nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A new element. `children` are elements and texts. */
export function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
