/* client.js: what a page holds: a state that follows the server's, and the way to change it.
 *
 *   const board = connect("/", { slices: ["board"] });
 *   board.select((state) => state.board.tasks, render);
 *   await board.dispatch("board/task_added", { title: "Ship it" });
 *
 * Invariants: the connection alone changes the state; listeners only observe. Each frame makes a new state, which
 * shares everything that did not change with the one before, so `===` tells what to draw again.
 */
import { rootOf } from "./address.js";
import { Dispatcher } from "./dispatch.js";
import { StatestreamError } from "./errors.js";
import { groupOf } from "./group.js";
import { HeartbeatMonitor } from "./health.js";
import { Notifier } from "./notifier.js";
import { Replica } from "./replica.js";
import { selectionOf, selects } from "./selection.js";
import { SharedStream } from "./shared.js";
import { Connection } from "./stream.js";
import { Token } from "./token.js";
import { watchPage } from "./wake.js";

const MAX_PENDING = 10_000; // updates for listeners; beyond, one that says that everything may be different

/** Follows slices of the server at `url`, its root. Throws a StatestreamError if an argument cannot be right.
 *
 * `slices` are names, `name/*` or `*`, as an array or as one string with commas; without them, it follows every plain
 * slice. `token` is sent as `Authorization: Bearer …`; if it is a function, async or not, it is called for each
 * connection, and again if the server refuses the token with a 401. `fetch` sends all requests in place of the page's.
 * `identity` is whom all this is for; the clients of a browser share one stream if it is the same, or else the token.
 * `optimistic` is what the function of that name returns: it shows changes before the server has made them.
 * `snapshot` is the answer of `GET /state` for the same slices: the client has that state, and continues after it.
 */
export function connect(url, options = {}) {
  const client = new Client(rootOf(url), options);
  if (options.snapshot !== undefined) client.begin(options.snapshot);
  client.open();
  return client;
}

class Client {
  #replica;
  #monitor = new HeartbeatMonitor(() => this.#changed());
  #notifier = new Notifier(() => this.#pending.splice(0));
  #pending = [];
  #health = {};
  #connection;
  #dispatcher;
  #optimistic;
  #root;
  #options;
  #settle;
  #leave = () => {};

  constructor(root, given) {
    const selection = selectionOf(given.slices), group = groupOf(root, given), url = new URL("stream/state", root);
    if (selection !== null) url.searchParams.set("slices", String(selection)); // an array becomes text with commas
    const token = new Token(given.token, given.fetch ?? ((...args) => globalThis.fetch(...args)));
    [this.#root, this.#options] = [root, given];
    this.#dispatcher = new Dispatcher(root, token);
    const wants = (name) => selects(selection, name);
    this.#replica = new Replica(group === null ? undefined : wants); // its own stream has nothing else
    this.#optimistic = given.optimistic?.({
      replica: this.#replica,
      selects: wants,
      send: ({ type, payload, ...options }) => this.#dispatcher.dispatch(type, payload, options),
      onChange: () => this.#changed(),
      isLive: () => this.#connection.phase === "live",
      group,
    });
    const options = {
      url,
      token,
      replica: this.#replica,
      monitor: this.#monitor,
      onEvent: (_, updates) => this.#received(updates),
      onPhase: () => {
        if (this.#connection.phase === "live") this.#optimistic?.wake();
        this.#changed();
      },
    };
    this.#connection = group === null ? new Connection(options) : new SharedStream(group, options);
    this.ready = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.ready.catch(() => {}); // nobody has to wait for it
  }

  /** Throws a StatestreamError. */
  begin(snapshot) {
    this.#replica.begin(snapshot);
    this.#optimistic?.updated([]);
    this.#settle.resolve(this.state);
  }

  async open() {
    this.#leave = watchPage(this.#connection, this.#optimistic);
    await this.#connection.run();
    this.#leave();
    this.#monitor.stop();
    this.#settle.reject(this.health.error ?? new StatestreamError("the client was closed", { code: "closed" }));
  }

  get slices() {
    return this.#options.slices;
  }

  get state() {
    return (this.#optimistic ?? this.#replica).state;
  }

  get versions() {
    return this.#replica.versions;
  }

  get position() {
    return this.#replica.position;
  }

  get snapshot() {
    const { position, state: slices, versions } = this.#replica;
    return position === null ? null : { position, slices, versions };
  }

  get pending() {
    return this.#optimistic?.pending ?? [];
  }

  get health() {
    const { phase, error } = this.#connection, now = { level: this.#monitor.level, phase, error };
    const isNew = Object.keys(now).some((name) => now[name] !== this.#health[name]);
    if (isNew) this.#health = Object.freeze(now); // the same object until something changes
    return this.#health;
  }

  subscribe = (listener) => this.#notifier.add(listener);

  select = (selector, listener) => {
    let known = { value: undefined, shown: false };
    const look = () => {
      if (!this.#replica.begun) return;
      const { value: before, shown } = known, value = selector(this.state);
      if (shown && Object.is(value, before)) return;
      known = { value, shown: true };
      listener(value, before);
    };
    this.#notifier.schedule();
    return this.#notifier.add(look);
  };

  dispatch = (...action) => {
    const isExpected = this.#optimistic?.expects(action[0]);
    return (isExpected ? this.#optimistic : this.#dispatcher).dispatch(...action);
  };

  request = (path, body, options) => this.#dispatcher.request(path, body, options);

  follow = (slices) => connect(this.#root, { ...this.#options, slices, snapshot: undefined, optimistic: undefined });

  close = () => {
    this.#notifier.stop();
    this.#connection.close();
    this.#dispatcher.close();
    this.#optimistic?.close();
    this.#leave();
  };

  #received(updates) {
    this.#optimistic?.updated(updates);
    this.#settle.resolve(this.state);
    if (!updates.length) return;
    const { length } = this.#pending;
    if (length + updates.length > MAX_PENDING) this.#pending = [{ ...updates.at(-1), ...LAGGED }];
    else if (this.#notifier.isHeard) this.#pending.push(...updates);
    this.#changed();
  }

  #changed() {
    this.#notifier.schedule();
  }
}

const LAGGED = { kind: "initial", reason: "lagged", slice: undefined, patches: undefined, cause: null };
