/* feed.js: what the components of a page read: one state for all of them, which changes at most once per frame.
 *
 * Invariants: nothing is connected before somebody subscribes, so a render that is thrown away leaves nothing behind,
 * and neither does one on a server. What is `shown` changes only when all who subscribe are told, so components that
 * are drawn at different times show the same.
 */
import { connect } from "./client.js";
import { selectionOf, selects } from "./selection.js";

const LINGER_MS = 1000; // how long a connection outlives its last subscriber, who may come back with the next page

/** What there is to show before a connection. `begun`: there has been a state. */
const shownOf = (state, begun) => ({ state, begun, health: { level: "failed", phase: "connecting", error: null } });
const NOTHING = shownOf({}, false);

/** What a client has; the state that was `shown` before, while it has none. */
const shownBy = ({ state, position, health }, shown) =>
  position === null ? { ...shown, health } : { state, begun: true, health };

/** A client that is opened when somebody subscribes, and closed when nobody does any more. */
export class Feed {
  shown;
  #open;
  #close;
  #client = null;
  #leave;
  #timer;
  #listeners = new Set();
  archives = {}; // of the chats that it has, by the names of their slices

  /** `initial` is shown first. `open()` gives a client, `close(client)` ends it. */
  constructor(initial, open, close) {
    [this.initial, this.shown, this.#open, this.#close] = [initial, initial, open, close];
  }

  /** Opens it. */
  get client() {
    if (this.#client === null) {
      this.#client = this.#open();
      this.#leave = this.#client.subscribe(this.publish);
      this.publish();
    }
    this.#release();
    return this.#client;
  }

  subscribe = (listener) => {
    const tell = () => listener(); // so that one function can be added twice
    this.#listeners.add(tell);
    void this.client;
    return () => {
      this.#listeners.delete(tell);
      this.#release();
    };
  };

  /** Shows what there is by now. */
  publish = () => {
    if (this.#client !== null) this.shown = shownBy(this.#client, this.shown);
    for (const tell of [...this.#listeners]) tell();
  };

  #release() {
    clearTimeout(this.#timer);
    if (this.#listeners.size > 0 || this.#client === null) return;
    this.#timer = setTimeout(() => {
      this.#leave();
      this.#close(this.#client);
      this.#client = null;
    }, LINGER_MS);
  }
}

/** The slices of one server: those of a client, and those that components name beside these. */
export class Source {
  #selection;
  #others = new Map(); // feeds by the name of the slice

  /** Of `client`, or of one of its own, with the options of `connect`. */
  constructor(client, url, { snapshot, ...options }) {
    this.#selection = selectionOf(client ? client.slices : options.slices);
    let newest = snapshot; // where the next connection continues
    const end = (ended) => {
      newest = ended.snapshot ?? newest;
      if (!client) ended.close();
    };
    const initial = snapshot ? shownOf(snapshot.slices, true) : NOTHING;
    this.base = new Feed(initial, () => client ?? connect(url, { ...options, snapshot: newest }), end);
    if (client) this.base.shown = shownBy(client, initial);
  }

  dispatch = (...given) => this.base.client.dispatch(...given);

  request = (...given) => this.base.client.request(...given);

  /** The feed that has the slice of that name. */
  feedOf(name) {
    if (name === undefined || selects(this.#selection, name)) return this.base;
    return this.#others.get(name) ?? this.#other(name);
  }

  /** One that is in the map while it is open. A component that was hidden may open it again without a rendering. */
  #other(name) {
    const keep = () => this.#others.set(name, feed);
    const open = () => (keep(), this.base.client.follow([name]));
    const close = (client) => {
      if (this.#others.get(name) === feed) this.#others.delete(name);
      client.close();
    };
    const feed = new Feed(NOTHING, open, close);
    keep();
    return feed;
  }
}
