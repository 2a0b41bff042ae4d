/* stored.js: an outbox that outlives its page: actions wait in IndexedDB, and one of all pages of the person sends them.
 *
 * Invariants: an action is stored before it is sent. A page that is put away lets another one send immediately, because
 * it may be frozen before the next step. When an action is removed, all pages are told what became of it, so whoever
 * reads the table either finds it or is told. If its sender dies before that, the next one sends it again, with the same
 * id, so it takes effect once. Where nothing can be stored, an outbox in memory takes its place.
 */
import { StatestreamError } from "./errors.js";
import { Outbox, PAUSE_MS, isUnanswered } from "./outbox.js";

const TABLE = "actions";
const MISSED = "another page has sent the action; its answer did not reach this one";

export class StoredOutbox {
  #send;
  #onPut;
  #onSent;
  #onUnsent;
  #onDone;
  #isLive;
  #memory;
  #database; // a promise; of null if there is none
  #name; // of the database, its lock and its channel
  #channel = null; // while this page is in use: messages would throw it out of the browser's cache
  #waiting = new Map(); // the promises of this page's actions, by id
  #known = new Set(); // the ids of all stored actions that this page has heard of
  #done = null; // the ids of what was done while the table is read,
  #sent = null; // and of what was sent
  #turn = new AbortController();
  #news = () => {};
  #closed = false;

  /** For each action of any page, `onPut(action)` is called, `onSent(id)` before it is sent for the first time, and
   * `onDone(id, {answer, error})` when it is over. `onSent(id, true)`: that was before this page has heard of it. While
   * this page sleeps, another one may send all of them: `onSent` is called, and later `onUnsent(id)` for those that
   * were not sent. */
  constructor(name, send, { onPut, onSent, onUnsent, onDone, isLive }) {
    [this.#isLive, this.#onUnsent] = [isLive, onUnsent];
    [this.#send, this.#onPut, this.#onSent, this.#onDone] = [send, onPut, onSent, onDone];
    this.#memory = new Outbox((action) => (onSent(action.id), send(action)));
    this.#database = name.then((text) => this.#open(text)).catch(() => null);
    void this.#stand();
  }

  /** The answer to an action. Throws a StatestreamError. */
  async put(action) {
    const database = await this.#database;
    if (database === null || this.#closed) return this.#memory.put(action);
    const answered = new Promise((resolve, reject) => this.#waiting.set(action.id, { resolve, reject }));
    answered.catch(() => {}); // it may be closed before anybody waits for it
    try {
      await this.#change((table) => table.add(action));
    } catch {
      this.#waiting.delete(action.id);
      return this.#memory.put(action); // it cannot be cloned, or the disk is full
    }
    if (this.#closed) return answered;
    this.#known.add(action.id);
    this.#tell({ action });
    this.#news();
    return answered;
  }

  wake() {
    this.#memory.wake();
    this.#news();
    if (this.#turn.signal.aborted && !this.#closed) void this.#stand();
  }

  /** Lets another page send. */
  sleep() {
    for (const id of this.#known) this.#onSent(id); // the next state may have them, before the table is read again
    this.#turn.abort();
    this.#channel?.close();
    this.#channel = null;
    this.#news();
  }

  /** Stored actions wait for the next page. */
  close() {
    this.#closed = true;
    this.#memory.close();
    this.sleep();
    const error = new StatestreamError("the client was closed; the action waits for the next one", { code: "closed" });
    for (const { reject } of this.#waiting.values()) reject(error);
  }

  async #open(name) {
    const opening = indexedDB.open(name, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { autoIncrement: true });
    const database = await result(opening);
    if (this.#closed) return null;
    database.onclose = () => (this.#database = this.#open(name).catch(() => null)); // the browser has closed it
    this.#name = name;
    return database;
  }

  /** Finds out what other pages have put, and what was done, while this one was not there or stood still. */
  async #read(database) {
    const known = [...this.#known], done = (this.#done = new Set()), sent = (this.#sent = new Set());
    const rows = await result(database.transaction(TABLE).objectStore(TABLE).getAll());
    if (done !== this.#done || this.#closed) return; // it is read once more
    this.#done = this.#sent = null;
    const stored = new Set(rows.map(({ id }) => id));
    for (const action of rows.filter(({ id }) => !done.has(id))) {
      const isNew = !this.#known.has(action.id), isSent = action.isSent || sent.has(action.id);
      if (isNew) this.#put(action);
      if (!isSent) this.#onUnsent(action.id);
      else if (isNew) this.#onSent(action.id, true);
    }
    for (const id of known) {
      if (this.#known.has(id) && !stored.has(id)) this.#settle(id, { error: { code: "unavailable", detail: MISSED } });
    }
  }

  #listen() {
    if (this.#channel !== null) return;
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
  }

  /** Tells the other pages, also if this one has been put away or closed in the meantime. */
  #tell(message) {
    const channel = this.#channel ?? new BroadcastChannel(this.#name);
    channel.postMessage(message);
    if (channel !== this.#channel) channel.close();
  }

  #put(action) {
    this.#known.add(action.id);
    this.#onPut(action);
  }

  #hear({ action, sent, id, outcome }) {
    if (action !== undefined) this.#put(action);
    else if (sent !== undefined) this.#mark(sent);
    else this.#settle(id, outcome);
    this.#news();
  }

  #mark(id) {
    this.#sent?.add(id);
    this.#onSent(id);
  }

  #settle(id, { answer, error }) {
    this.#done?.add(id);
    this.#known.delete(id);
    this.#onDone(id, { answer, error });
    const { resolve, reject } = this.#waiting.get(id) ?? {};
    this.#waiting.delete(id);
    if (error === undefined) resolve?.(answer);
    else reject?.(new StatestreamError(error.detail, error));
  }

  /** Sends once no other page does, until it sleeps. */
  async #stand() {
    const { signal } = (this.#turn = new AbortController());
    while (!signal.aborted) {
      const database = await this.#database;
      if (database === null || signal.aborted) return;
      try {
        this.#listen(); // before it reads, so that it misses nothing
        await this.#read(database);
        await navigator.locks.request(this.#name, { signal }, () => Promise.race([this.#run(signal), aborted(signal)]));
      } catch {
        if (!signal.aborted) await Promise.race([this.#rest(), aborted(signal)]); // the table cannot be read just now
      }
    }
  }

  async #run(signal) {
    while (!signal.aborted) {
      const news = new Promise((resolve) => (this.#news = resolve)), next = await this.#first();
      const isOffline = globalThis.navigator.onLine === false && !this.#isLive(); // a browser may be wrong about that
      if (signal.aborted) return;
      if (next === null || isOffline) await news;
      else await Promise.race([this.#deliver(next, signal), aborted(signal)]);
    }
  }

  async #deliver({ key, value: { isSent, ...action } }, signal) {
    const { id } = action, outcome = {};
    if (!isSent) {
      await this.#change((table) => table.put({ ...action, isSent: true }, key));
      this.#tell({ sent: id });
      this.#mark(id);
    }
    if (signal.aborted) return; // another page sends it
    try {
      outcome.answer = await this.#send(action);
    } catch (error) {
      if (signal.aborted) return; // what this page waits for by now is something else
      if (isUnanswered(error)) return this.#rest(error.retryAfter);
      outcome.error = { ...error };
    }
    await this.#change((table) => {
      table.delete(key).onsuccess = () => (this.#tell({ id, outcome }), this.#settle(id, outcome));
    });
  }

  #rest(least = 0) {
    return new Promise((resolve) => {
      this.#news = resolve;
      setTimeout(resolve, Math.max(PAUSE_MS, least));
    });
  }

  /** The oldest action, as {key, value}, or null. */
  async #first() {
    const database = await this.#database;
    return result(database.transaction(TABLE).objectStore(TABLE).openCursor());
  }

  async #change(work) {
    const transaction = (await this.#database).transaction(TABLE, "readwrite");
    work(transaction.objectStore(TABLE));
    transaction.commit(); // a page that is frozen from here on holds up no other
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
  }
}

const aborted = (signal) => new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));

const result = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
