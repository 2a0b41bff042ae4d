/* optimistic.js: changes that are shown before the server has made them. It is not part of `statestream.js`.
 *
 *   import { optimistic } from "/js/optimistic.js";
 *   const added = (board, { id, title }) => ({ ...board, tasks: [...board.tasks, { id, title, done: false }] });
 *   const client = connect("/", { slices: ["board"], optimistic: optimistic({ "board/task_added": added }) });
 *
 * Invariants: an action whose change is shown is sent until the server answers. What it answers decides what is shown.
 */
import { newId } from "./dispatch.js";
import { Outbox } from "./outbox.js";
import { Overlay } from "./overlay.js";
import { StoredOutbox } from "./stored.js";

/** What `connect` takes as `optimistic`.
 *
 * `reducers` have a function for each type of action whose change is shown at once: of the value of the action's slice
 * and the payload. It returns the new value, and leaves the old one as it is.
 */
export const optimistic = (reducers) => (client) => new Optimistic(reducers, client);

class Optimistic {
  #overlay;
  #outbox;
  #onChange;

  /** `send(action)` gives the server's answer; `onChange()` is called after the state has changed. `isLive()`: whether
   * the server can be reached for sure. `selects(name)`: whether the replica follows that slice.
   */
  constructor(reducers, { replica, selects, send, onChange, isLive, group }) {
    this.#overlay = new Overlay(replica, reducers, selects);
    this.#onChange = onChange;
    if (group?.isOfPerson && globalThis.indexedDB) {
      const onPut = (action) => this.#change(() => this.#overlay.add(action));
      const onSent = (id, earlier) => this.#change(() => this.#overlay.sent(id, earlier));
      const onUnsent = (id) => this.#change(() => this.#overlay.unsent(id));
      const onDone = (id, outcome) => this.#change(() => this.#done(id, outcome));
      this.#outbox = new StoredOutbox(group.outboxName(), send, { onPut, onSent, onUnsent, onDone, isLive });
    } else this.#outbox = new Outbox((action) => (this.#overlay.sent(action.id), send(action)));
  }

  #done(id, { answer }) {
    if (answer === undefined) this.#overlay.refused(id);
    else this.#overlay.answered(id, answer.changes);
  }

  get state() {
    return this.#overlay.state;
  }

  get pending() {
    return this.#overlay.pending;
  }

  /** The replica has made updates. */
  updated(updates) {
    this.#overlay.updated(updates);
  }

  expects(type) {
    return this.#overlay.expects(type);
  }

  /** The server's answer. Throws a StatestreamError. */
  async dispatch(type, payload = {}, { id = newId(), key, expect } = {}) {
    const action = { type, payload, id, key, expect };
    this.#change(() => this.#overlay.add(action));
    try {
      const answer = await this.#outbox.put(action);
      this.#change(() => this.#done(id, { answer }));
      return answer;
    } catch (error) {
      this.#change(() => this.#done(id, {}));
      throw error;
    }
  }

  /** The server may answer again. */
  wake() {
    this.#outbox.wake();
  }

  /** Others may send. */
  sleep() {
    this.#outbox.sleep();
  }

  close() {
    this.#outbox.close();
  }

  #change(work) {
    work();
    this.#onChange();
  }
}
