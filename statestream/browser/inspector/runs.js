/* runs.js: the replies of chats, with their timings, from the messages of the slices `chat/…`.
 *
 * Invariants: it shows what the state contains, so it needs no right of its own. Only the newest replies are listed.
 */
import { duration, number, visible } from "./format.js";
import { made, say } from "./rows.js";

const MOST = 100;
const PREFIX = "chat/";
const BAR_PX = 120;

export class Runs {
  #element;
  #state = null;

  constructor(element) {
    this.#element = element;
  }

  render({ state }) {
    const chats = Object.entries(state).filter(([name]) => name.startsWith(PREFIX));
    if (this.#state !== null && chats.length === this.#state.length && chats.every(([, value], at) => value === this.#state[at][1])) return;
    this.#state = chats;
    const found = chats.flatMap(([name, { messages }]) => runsOf(name.slice(PREFIX.length), messages));
    found.sort((a, b) => (b.created_at ?? 0) - (a.created_at ?? 0));
    const shown = found.slice(0, MOST), longest = Math.max(1, ...shown.map(({ run }) => run.duration_ms ?? 0));
    say(this.#element.querySelector("[role=status]"), statusOf(found.length));
    this.#element.querySelector("table").hidden = !shown.length;
    this.#element.querySelector("tbody").replaceChildren(...shown.map((each) => rowOf(each, longest)));
  }
}

function statusOf(count) {
  if (!count) return "No chat that is followed has a reply. Chats are the slices chat/*.";
  return `${count === 1 ? "1 reply" : `${number(count)} replies`}${count > MOST ? `, of which the newest ${MOST} are listed` : ""}`;
}

const runsOf = (chat, messages) =>
  Array.isArray(messages) ? messages.filter(({ run }) => run).map((message) => ({ chat, ...message })) : [];

function rowOf({ chat, model, status, run, usage = {}, error }, longest) {
  const { duration_ms: whole, first_piece_ms: first, pieces, tokens_per_second: speed } = run;
  const cells = [
    chat, model ?? "", error ? `${status}: ${error.message ?? error.code ?? ""}` : status, ms(whole), ms(first),
    pieces === undefined ? "" : number(pieces), speed === undefined ? "" : number(speed),
    [usage.input, usage.output].map((count) => (count === undefined ? "?" : number(count))).join(" → "),
  ];
  const row = made("tr", {}, ...cells.map((text, column) => made("td", { textContent: visible(text), className: column === 2 ? "long" : "" })));
  row.append(made("td", {}, bar(first ?? 0, whole ?? 0, longest)));
  return row;
}

const ms = (value) => (value === undefined ? "" : duration(value));

/** How long a reply took, beside the others: until its first piece, and from then on. */
function bar(first, whole, longest) {
  const box = made("span", { className: "bar", ariaHidden: "true" }), wait = made("span", { className: "wait" }), rest = made("span", { className: "rest" });
  wait.style.width = `${(BAR_PX * first) / longest}px`;
  rest.style.width = `${(BAR_PX * Math.max(0, whole - first)) / longest}px`;
  box.append(wait, rest);
  return box;
}
