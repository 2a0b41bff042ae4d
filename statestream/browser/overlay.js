/* overlay.js: the state as it will be once the server has done what was dispatched.
 *
 * Invariants: pure. An expected change is shown from its dispatch until the state contains what the server has made of
 * it, or until the server has refused it: never both, and never neither. It is made anew on each state that arrives. If
 * a state may contain it or not, because changes were coalesced, the value from before is shown until the answer tells.
 * Values never change, and what is shown shares what did not change with what was shown before.
 */
import { shared } from "./sharing.js";

const UNSENT = { isSent: false, isUnclear: false, isHidden: false };

export class Overlay {
  #replica;
  #reducers;
  #selects;
  #expected = []; // in the order of their dispatch; `version` since the answer, `isIn` once the state contains it
  #before = new Map(); // values from before the states that may contain expected changes, by slice
  #confirmed = null; // the state of the replica after the last updates
  #shown = {};
  #isFresh = false; // whether `#shown` is up to date

  /** `reducers`: by the type of an action, a function of the slice's value and the payload that returns the new value.
   * `selects(name)`: whether the replica follows that slice.
   */
  constructor(replica, reducers = {}, selects = () => true) {
    [this.#replica, this.#reducers, this.#selects] = [replica, reducers, selects];
  }

  get state() {
    if (this.#expected.length === 0 || !this.#replica.begun) return (this.#shown = this.#replica.state);
    if (!this.#isFresh) [this.#shown, this.#isFresh] = [shared(this.#shown, this.#expectedState()), true];
    return this.#shown;
  }

  /** Whether changes of this action can be expected. */
  expects(type) {
    return Object.hasOwn(this.#reducers, type);
  }

  /** The actions that the server has not answered, in the order of their dispatch. */
  get pending() {
    return this.#expected.filter(({ version, isIn }) => version === null && !isIn).map(({ action }) => action);
  }

  add({ id, type, payload, key }) {
    const [slice] = type.split("/"), name = key === undefined ? slice : `${slice}/${key}`;
    const reduce = (value) => this.#reducers[type](value, payload);
    if (!this.expects(type) || !this.#selects(name) || this.#expected.some((entry) => entry.id === id)) return;
    const action = { id, type, payload, key };
    this.#expected.push({ id, name, reduce, action, ...UNSENT, version: null, isIn: false });
    this.#changed();
  }

  /** The server may have the action from now on; `earlier`: since before this page, so the state may contain it. */
  sent(id, earlier = false) {
    for (const entry of this.#expected) {
      if (entry.id !== id) continue;
      entry.isSent = true;
      entry.isHidden ||= earlier && this.#confirmed !== null;
    }
    this.#isFresh = false;
  }

  /** The server cannot have the action, although this page had to assume that it might. */
  unsent(id) {
    for (const entry of this.#expected) if (entry.id === id) Object.assign(entry, UNSENT);
    this.#changed();
  }

  /** The server has accepted the action, with these changes. */
  answered(id, changes) {
    for (const entry of this.#expected) {
      if (entry.id !== id) continue;
      entry.isHidden = false;
      entry.version = changes.findLast(({ slice }) => slice === entry.name)?.version ?? 0;
    }
    this.#changed();
  }

  /** The server has refused the action, or nobody sends it any more. */
  refused(id) {
    this.#expected = this.#expected.filter((entry) => entry.id !== id);
    this.#changed();
  }

  /** The replica has made the updates of a frame. */
  updated(updates) {
    if (this.#expected.length > 0 && updates.length > 0) this.#compare(updates);
    if (this.#replica.begun) this.#confirmed = this.#replica.state;
  }

  #compare(updates) {
    const newest = Math.max(...updates.map(({ version = 0 }) => version)); // what is older has come, or never will
    for (const entry of this.#expected) {
      entry.isIn ||= updates.some(isOf(entry)) || (entry.version !== null && entry.version <= newest);
      if (entry.isIn || !entry.isSent || entry.version !== null || !updates.some(isUnclearFor(entry))) continue;
      entry.isUnclear = true;
      if (this.#confirmed === null) entry.isHidden = true; // there is nothing to show instead
      else if (!this.#before.has(entry.name)) this.#before.set(entry.name, this.#confirmed[entry.name]);
    }
    this.#changed();
  }

  #changed() {
    const { versions } = this.#replica, unclear = new Set();
    for (const entry of this.#expected) {
      const { name, version } = entry, held = Object.hasOwn(versions, name) ? versions[name] : 0;
      entry.isIn ||= version !== null && version <= held;
      if (entry.isUnclear && !entry.isIn && version === null) unclear.add(name);
    }
    for (const name of [...this.#before.keys()]) if (!unclear.has(name)) this.#before.delete(name);
    this.#expected = this.#expected.filter(({ name, isIn }) => !isIn || this.#before.has(name));
    this.#replica.share(this.#shown);
    this.#isFresh = false;
  }

  #expectedState() {
    const state = { ...this.#replica.state };
    for (const [name, value] of this.#before) put(state, name, value);
    for (const { name, reduce } of this.#expected.filter(({ isHidden }) => !isHidden)) put(state, name, reduced(reduce, state[name]));
    return state;
  }
}

/** Whether an update is the expected change. */
const isOf = ({ id, name }) => ({ slice, cause }) => slice === name && cause?.id === id;

/** Whether nobody knows which actions an update is of. */
const isUnclearFor = ({ name }) => ({ kind, slice, cause }) => kind === "initial" || (slice === name && !cause);

function put(state, name, value) {
  if (value === undefined) delete state[name];
  else state[name] = value;
}

/** If a reducer fails, its change does not fit what others have made of the value, and is not shown. */
function reduced(reduce, value) {
  try {
    return reduce(value);
  } catch (error) {
    console.error(error);
    return value;
  }
}
