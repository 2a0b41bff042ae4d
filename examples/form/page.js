/* page.js: the fields, who edits them, and where everybody's pointer is. */
import { connect } from "/js/statestream.js";

const EDITS_MS = 150, POINTER_MS = 50; // the shortest time between two actions
const ALIVE_MS = 4_000; // app.py removes whom it has not heard of for three times as long

const element = (id) => document.getElementById(id);
const form = document.querySelector("form");
const client = connect("/", { slices: ["form", "people"] });

const id = crypto.randomUUID(); // of this page: two tabs of a person have two pointers
const me = {
  name: localStorage.getItem("name") ?? `Guest ${id.slice(0, 4)}`,
  hue: Math.round(parseInt(id.slice(0, 2), 16) * 1.4),
  editing: null,
  pointer: null,
};

/** Calls `send`, which takes what is newest then, at most every `ms`, and never while the server has yet to answer.
 *
 * So a slow network gets fewer actions, not late ones.
 */
function throttled(ms, send) {
  let isWanted = false, isBusy = false;
  return async () => {
    isWanted = true;
    if (isBusy) return;
    isBusy = true;
    while (isWanted) {
      isWanted = false;
      await Promise.all([send(), new Promise((resolve) => setTimeout(resolve, ms))]);
    }
    isBusy = false;
  };
}

// the fields: what is written here is sent; what others write is shown, but never under somebody's hands

class Field {
  #input;
  #editors = Object.assign(document.createElement("span"), { className: "editors" });
  #note = Object.assign(document.createElement("p"), { className: "note" });
  #typed = null; // what was written here and is not replaced yet
  #isUnsent = false;
  #save = throttled(EDITS_MS, () => this.#send());

  constructor(input) {
    this.#input = input;
    input.previousElementSibling.append(this.#editors);
    this.#note.id = `${input.id}-note`;
    this.#note.setAttribute("role", "status");
    input.setAttribute("aria-describedby", this.#note.id);
    input.after(this.#note);
    input.oninput = () => this.#write(input.value);
    const whole = input.parentElement;
    whole.addEventListener("focusin", () => announce({ editing: input.id }));
    whole.addEventListener("focusout", ({ relatedTarget }) => {
      if (!whole.contains(relatedTarget)) (announce({ editing: null }), this.show());
    });
  }

  get isUnsent() {
    return this.#isUnsent;
  }

  #write(value) {
    [this.#input.value, this.#typed, this.#isUnsent] = [value, value, true];
    this.#say("");
    showStatus();
    void this.#save();
  }

  async #send() {
    const value = this.#typed;
    try {
      await client.dispatch("form/written", { field: this.#input.id, value, id, by: me.name });
      element("problem").textContent = "";
      this.#isUnsent = this.#typed !== value;
    } catch (error) {
      element("problem").textContent = error.detail;
      if (error.code === "unavailable") void this.#save(); // nobody has answered: try again
      else this.#isUnsent = false;
    }
    this.show();
    showStatus();
  }

  /** Shows what the server has, unless this would change a text that is being written. */
  show() {
    const written = client.state.form?.[this.#input.id], isFocused = this.#input.parentElement.contains(document.activeElement);
    if (!written || this.#isUnsent) return;
    if (written.value === this.#input.value) {
      if (!isFocused) this.#typed = null;
      return;
    }
    if (this.#typed !== null && written.id === id) return; // an earlier text of our own, on its way back
    if (this.#typed !== null && isFocused) {
      this.#say(`${written.by} has changed this to “${short(written.value)}”. If you keep typing, your text replaces it.`, "Use theirs", () => {
        this.#take(written.value);
      });
      return;
    }
    const mine = this.#typed;
    this.#take(written.value);
    if (mine !== null) this.#say(`${written.by} wrote this after you. You had “${short(mine)}”.`, "Restore yours", () => this.#write(mine));
  }

  /** Shows a text of somebody else. The caret stays where it is in the text, not at the same distance from its start. */
  #take(value) {
    const { value: before, selectionStart: at } = this.#input;
    [this.#typed, this.#input.value] = [null, value];
    if (at == null || document.activeElement !== this.#input) return; // some kinds of fields have no caret
    const isBehind = before.slice(0, at) !== value.slice(0, at);
    const caret = isBehind ? Math.max(0, value.length - (before.length - at)) : at;
    this.#input.setSelectionRange(caret, caret);
  }

  #say(text, action, act) {
    this.#note.replaceChildren(text);
    if (!action) return;
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: action });
    button.onmousedown = (event) => event.preventDefault(); // the field keeps the focus
    button.onclick = () => (this.#input.focus(), this.#say(""), act());
    this.#note.append(" ", button);
  }

  editedBy(others) {
    const names = others.filter(({ editing }) => editing === this.#input.id);
    this.#editors.textContent = names.length ? `${names.map(({ name }) => name).join(", ")} ${names.length > 1 ? "are" : "is"} editing` : "";
    this.#input.parentElement.classList.toggle("edited", names.length > 0);
    if (names.length) this.#input.parentElement.style.setProperty("--hue", names[0].hue);
  }
}

const short = (text) => (text.length > 60 ? `${text.slice(0, 60)}…` : text);
const fields = [...form.querySelectorAll("input, select, textarea")].map((input) => new Field(input));

// the people: this page says where it is, and shows where the others are

const tell = throttled(POINTER_MS, () => client.dispatch("people/seen", { id, ...me }).catch(() => {})); // it is told again soon

function announce(change = {}) {
  Object.assign(me, change);
  void tell();
}

document.onpointermove = ({ target, clientX, clientY, pointerType }) => {
  const area = pointerType === "touch" ? null : target.closest("[data-area]");
  if (!area) return me.pointer && announce({ pointer: null });
  const { left, top, width, height } = area.getBoundingClientRect();
  announce({ pointer: { area: area.dataset.area, x: (clientX - left) / width, y: (clientY - top) / height } });
};
document.documentElement.onpointerleave = () => announce({ pointer: null });

setInterval(announce, ALIVE_MS);
announce();
globalThis.onpageshow = ({ persisted }) => persisted && announce();
document.onvisibilitychange = () => document.visibilityState === "visible" && announce(); // timers of hidden pages are slow
globalThis.onpagehide = () => {
  const body = new Blob([JSON.stringify({ type: "people/left", payload: { id } })], { type: "application/json" });
  navigator.sendBeacon("/dispatch", body); // the only request that outlives its page
};

element("you").value = me.name;
element("you").oninput = ({ target }) => {
  const name = target.value.trim();
  if (!name) return;
  localStorage.setItem("name", name);
  announce({ name });
};

function showPeople(people) {
  const others = Object.entries(people).filter(([theirs]) => theirs !== id).map(([id, person]) => ({ id, ...person }));
  element("people").replaceChildren(...[{ ...me, name: `${me.name} (you)` }, ...others].map((person) => coloured("li", person)));
  for (const field of fields) field.editedBy(others);
  showPointers(others.filter(({ pointer }) => pointer));
}

function coloured(tag, { name, hue }) {
  const made = Object.assign(document.createElement(tag), { textContent: name });
  made.style.setProperty("--hue", hue);
  return made;
}

const pointers = new Map(); // the elements of pointers by person: each stays the same, so that it glides

function showPointers(others) {
  for (const [theirs, shown] of pointers) if (!others.some((person) => person.id === theirs)) (shown.remove(), pointers.delete(theirs));
  for (const person of others) {
    const area = document.querySelector(`[data-area="${CSS.escape(person.pointer.area)}"]`);
    if (!area) continue;
    if (!pointers.has(person.id)) pointers.set(person.id, element("pointers").appendChild(coloured("b", person)));
    const shown = pointers.get(person.id), { left, top, width, height } = area.getBoundingClientRect();
    const origin = element("pointers").getBoundingClientRect();
    const [x, y] = [left - origin.left + person.pointer.x * width, top - origin.top + person.pointer.y * height];
    shown.style.transform = `translate(${x.toFixed()}px, ${y.toFixed()}px)`;
    shown.textContent = person.name;
  }
}

function showStatus() {
  const { phase, error } = client.health, phases = { connecting: "Connecting", live: "Live", waiting: "Offline", ended: "Disconnected" };
  element("status").className = phase;
  const isUnsent = fields.some((field) => field.isUnsent), more = phase === "live" ? "Saving" : `${phases[phase]}: not saved`;
  element("status").textContent = isUnsent ? more : phases[phase];
  if (phase === "ended") element("problem").textContent = error?.detail ?? "";
}

form.inert = true; // whoever wrote into an empty form would replace what is there
client.select((state) => state.form, () => {
  form.inert = false;
  fields.forEach((field) => field.show());
});
client.select((state) => state.people, showPeople);
client.subscribe(showStatus);
new ResizeObserver(() => client.state.people && showPeople(client.state.people)).observe(form); // the fields have moved
