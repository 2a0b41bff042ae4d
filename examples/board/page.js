/* page.js: draws the board, and turns drags, keys and buttons into actions. */
import { connect } from "/js/statestream.js";
import { optimistic } from "/js/optimistic.js";
import { expected, neighbour } from "./cards.js";

const element = (id) => document.getElementById(id);
const lists = new Map([...document.querySelectorAll("[data-column]")].map((each) => [each.dataset.column, each.querySelector("ul")]));
const columns = [...lists.keys()];
const nameOf = (column) => element(column).firstChild.textContent;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// With an identity, actions wait in IndexedDB while there is no connection, also across reloads. In an application with
// a login, pass the person's id. Here, everybody who uses this browser is the same visitor.
const client = connect("/", { slices: ["board"], identity: "visitor", optimistic: optimistic(expected) });
const cards = () => client.state.board?.cards ?? [];
const cardOf = (item) => cards().find(({ id }) => id === item?.dataset.id);

async function dispatch(type, payload) {
  element("problem").textContent = "";
  try {
    await client.dispatch(type, payload);
  } catch (error) {
    element("problem").textContent = error.detail; // the card is back where it was
  }
}

function move(card, { column, before = null }) {
  void dispatch("board/card_moved", { id: card.id, column, before });
  const own = cards().filter((each) => each.column === column), place = own.findIndex(({ id }) => id === card.id) + 1;
  element("said").textContent = `“${card.title}” is now in “${nameOf(column)}”, ${place} of ${own.length}.`;
  draw();
}

// drawing

const items = new Map(); // the elements of cards, by id: an element stays the same while its card moves

function itemOf({ id, title }) {
  const known = items.get(id);
  if (known) return known;
  const item = Object.assign(document.createElement("li"), { draggable: true });
  item.dataset.id = id;
  const button = Object.assign(document.createElement("button"), { textContent: "⋮", className: "more" });
  button.setAttribute("aria-label", `Move “${title}”`);
  const text = Object.assign(document.createElement("span"), { textContent: title });
  item.append(text, button);
  items.set(id, item);
  return item;
}

function draw() {
  if (dragged) return; // the board stands still while a card is in the air
  const focused = document.activeElement, from = new Map([...items.values()].map((item) => [item, item.getBoundingClientRect()]));
  const shown = new Set(cards().map(({ id }) => id));
  for (const [id, item] of items) if (!shown.has(id)) (item.remove(), items.delete(id));
  for (const [column, list] of lists) {
    const own = cards().filter((card) => card.column === column).map(itemOf);
    own.forEach((item, at) => item !== list.children[at] && list.insertBefore(item, list.children[at] ?? null));
    element(column).dataset.count = own.length;
  }
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true }); // it has moved
  for (const [item, before] of from) if (item.isConnected) slide(item, before);
}

/** Shows the way from where the element was. */
function slide(item, before) {
  const { left, top } = item.getBoundingClientRect(), x = before.left - left, y = before.top - top;
  if ((x || y) && !calm.matches) item.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: 180, easing: "ease-out" });
}

// dragging

const marker = Object.assign(document.createElement("li"), { className: "marker" });
let dragged = null; // the element of the card in the air

document.ondragstart = (event) => {
  dragged = event.target.closest("li");
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", cardOf(dragged).title);
  dragged.classList.add("dragged");
};

for (const [column, list] of lists) {
  const area = list.parentElement;
  area.ondragover = (event) => {
    if (!dragged) return; // something from elsewhere
    event.preventDefault(); // it may be dropped here
    const below = [...list.children].find((item) => item !== marker && item !== dragged && middle(item) > event.clientY);
    if (marker.nextSibling !== (below ?? null) || marker.parentElement !== list) list.insertBefore(marker, below ?? null);
  };
  area.ondrop = (event) => {
    if (!dragged) return;
    event.preventDefault();
    const next = [...list.children].slice([...list.children].indexOf(marker) + 1).find((item) => item !== dragged);
    const card = cardOf(dragged);
    land();
    if (card) move(card, { column, before: next?.dataset.id ?? null });
  };
}

document.ondragend = land;

function middle(item) {
  const { top, height } = item.getBoundingClientRect();
  return top + height / 2;
}

function land() {
  marker.remove();
  dragged?.classList.remove("dragged");
  dragged = null;
  draw();
}

// without dragging: the button of a card opens a dialog, and takes the arrow keys

element("columns").onclick = ({ target }) => {
  const card = target.matches("button") && cardOf(target.closest("li"));
  if (card) open(card);
};

element("columns").onkeydown = (event) => {
  const card = event.target.matches("button") && cardOf(event.target.closest("li"));
  if (!card || !event.key.startsWith("Arrow")) return;
  event.preventDefault();
  const place = neighbour(cards(), card, event.key, columns);
  if (place) move(card, place);
};

const mover = element("mover");
let chosen; // the id of the card that the dialog moves

function open({ id, title, column }) {
  chosen = id;
  element("moved").textContent = `Move “${title}”`;
  for (const button of mover.querySelectorAll("[data-columns] button")) button.disabled = button.value === column;
  mover.showModal();
}

mover.onclick = ({ target }) => {
  const card = cards().find(({ id }) => id === chosen), { value } = target;
  if (target === mover || value === "close" || !card) return mover.close();
  if (value === "remove") return mover.close(), void dispatch("board/card_removed", { id: card.id });
  const place = columns.includes(value) ? { column: value } : neighbour(cards(), card, { up: "ArrowUp", down: "ArrowDown" }[value], columns);
  if (columns.includes(value)) mover.close();
  if (value && place) move(card, place);
};

element("add").onsubmit = (event) => {
  event.preventDefault();
  void dispatch("board/card_added", { id: crypto.randomUUID(), title: event.target.title.value });
  event.target.reset();
};

client.select((state) => state.board, draw);
client.subscribe(status);
globalThis.ononline = globalThis.onoffline = status;

/** Says what the connection does, and marks the cards whose actions the server has not answered. */
function status() {
  const { phase, error } = client.health, isOffline = !navigator.onLine || phase === "waiting";
  const waiting = new Set(client.pending.map(({ payload }) => payload.id)), unsent = client.pending.length;
  for (const [id, item] of items) item.classList.toggle("waiting", waiting.has(id));
  const phases = { connecting: "Connecting", live: "Live", ended: "Disconnected" };
  element("status").className = isOffline ? "waiting" : phase;
  element("status").textContent = isOffline ? `Offline${unsent ? `: ${unsent} to be sent` : ""}` : phases[phase];
  if (phase === "ended") element("problem").textContent = error?.detail ?? "";
}
