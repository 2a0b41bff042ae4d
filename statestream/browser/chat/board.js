/* board.js: the tasks beside the chat, which everybody shares. They are another slice of the same store.
 *
 * Invariants: a change shows at once, and is sent when the server can be reached, also after a reload: the outbox has
 * it. A task keeps its element, and with it the focus. A refusal stands beside the field, with the text in it.
 */
import { newId } from "../dispatch.js";
import { optimistic } from "../optimistic.js";
import { arrange, element, iconButton, say, show } from "./elements.js";
import { explained } from "./server.js";

const MAX_TITLE = 200;

const changed = (board, id, change) => ({
  ...board,
  tasks: board.tasks.map((task) => (task.id === id ? change(task) : task)),
});

/** What the actions of the board will do, for `connect`. */
export const expected = optimistic({
  "board/task_added": (board, { id, title }) =>
    board.tasks.some((task) => task.id === id)
      ? board
      : { ...board, tasks: [...board.tasks, { id, title, done: false }] },
  "board/task_toggled": (board, { id }) => changed(board, id, (task) => ({ ...task, done: !task.done })),
  "board/task_removed": (board, { id }) => ({ ...board, tasks: board.tasks.filter((task) => task.id !== id) }),
});

export class Board {
  #client;
  #part;
  #rows = new Map(); // {element, box, title, remove} by task
  #added = null; // the task that this page has just added, which is scrolled to

  constructor(client, parts) {
    [this.#client, this.#part] = [client, parts];
    const { form } = parts,
      field = form.elements.title;
    field.maxLength = MAX_TITLE;
    form.addEventListener("submit", (event) => (event.preventDefault(), this.#add(field)));
    client.select(
      (state) => state.board,
      (board) => this.#render(board?.tasks ?? []),
    );
    client.subscribe(() => this.#wait());
  }

  #render(tasks) {
    const ids = new Set(tasks.map(({ id }) => id));
    for (const id of this.#rows.keys()) if (!ids.has(id)) this.#rows.delete(id);
    const rows = tasks.map((task) => this.#row(task));
    arrange(
      this.#part.list,
      rows.map((row) => row.element),
    );
    show(this.#part.empty, tasks.length === 0);
    const open = tasks.filter(({ done }) => !done).length;
    say(this.#part.count, open === 0 ? "" : String(open));
    this.#rows.get(this.#added)?.element.scrollIntoView({ block: "nearest" });
    if (this.#rows.has(this.#added)) this.#added = null;
    this.#wait();
  }

  #row({ id, title, done }) {
    let row = this.#rows.get(id);
    if (row === undefined) this.#rows.set(id, (row = this.#made(id)));
    say(row.title, title);
    row.box.checked = done;
    row.remove.ariaLabel = row.remove.title = `Remove ${title}`;
    row.element.classList.toggle("done", done);
    return row;
  }

  #made(id) {
    const box = element("input", { type: "checkbox", onchange: () => void this.#do("board/task_toggled", { id }) });
    const title = element("span", { dir: "auto" }),
      remove = iconButton("close", "Remove", () => this.#remove(id));
    return { element: element("li", {}, element("label", {}, box, title), remove), box, title, remove };
  }

  /** Marks what the server does not have yet. */
  #wait() {
    const confirmed = new Set((this.#client.snapshot?.slices.board?.tasks ?? []).map(({ id }) => id));
    for (const [id, row] of this.#rows) row.element.classList.toggle("waiting", !confirmed.has(id));
    show(
      this.#part.waiting,
      [...this.#rows.keys()].some((id) => !confirmed.has(id)) && this.#client.health.phase !== "live",
    );
  }

  #add(field) {
    const title = field.value.trim();
    if (title === "") return;
    this.#added = newId();
    void this.#do("board/task_added", { id: this.#added, title }, () => (field.value = field.value || title));
    field.value = ""; // the outbox has it, and the board shows it
  }

  /** The focus goes to the next task, as the one that had it is gone. */
  #remove(id) {
    const { element: gone } = this.#rows.get(id),
      next = gone.nextElementSibling ?? gone.previousElementSibling;
    void this.#do("board/task_removed", { id });
    (next?.querySelector("button") ?? this.#part.form.elements.title).focus();
  }

  async #do(type, payload, failed = () => {}) {
    say(this.#part.problem, "");
    try {
      await this.#client.dispatch(type, payload);
    } catch (error) {
      if (error.code === "closed") return;
      failed();
      say(this.#part.problem, explained(error));
    }
  }
}
