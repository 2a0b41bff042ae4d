/* stored.js: an outbox that outlives its page: actions wait in IndexedDB, and one of all pages of the person sends them.
 *
 * Invariants: an action is stored before it is sent, and removed after all pages have been told what became of it. If its
 * sender dies in between, the next one sends it again, with the same id, so it takes effect once. Where nothing can be
 * stored, an outbox in memory takes its place.
 */
import { isUndecided } from "./dispatch.js";
import { StatestreamError } from "./errors.js";
import { Outbox } from "./outbox.js";

const PAUSE_MS = 5_000; // between attempts while the server does not answer
const TABLE = "actions";

export class StoredOutbox {
  #send;
  #onPut;
  #onSent;
  #onDone;
  #memory;
  #database; // a promise; of null if there is none
  #channel;
  #waiting = new Map(); // the promises of this page's actions, by id
  #done = new Set(); // the ids of what was done while the table was read
  #turn = new AbortController();
  #news = () => {};
  #closed = false;

  /** For each action of any page, `onPut(action)` is called, `onSent(id)` before it is sent for the first time, and
   * `onDone(id, {answer, error})` when it is over. */
  constructor(name, send, { onPut, onSent, onDone }) {
    [this.#send, this.#onPut, this.#onSent, this.#onDone] = [send, onPut, onSent, onDone];
    this.#memory = new Outbox((action) => (onSent(action.id), send(action)));
    this.#database = name.then((text) => this.#open(text)).catch(() => null);
  }

  /** The answer to an action. Throws a StatestreamError. */
  async put(action) {
    const database = await this.#database;
    if (database === null || this.#closed) return this.#memory.put(action);
    const answered = new Promise((resolve, reject) => this.#waiting.set(action.id, { resolve, reject }));
    try {
      await this.#change((table) => table.add(action));
    } catch {
      return this.#memory.put(action); // it cannot be cloned, or the disk is full
    }
    this.#channel.postMessage({ action });
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
    this.#turn.abort();
    this.#news();
  }

  /** Stored actions wait for the next page. */
  close() {
    this.#closed = true;
    this.#memory.close();
    this.sleep();
    this.#channel?.close();
    const error = new StatestreamError("the client was closed; the action waits for the next one", { code: "closed" });
    for (const { reject } of this.#waiting.values()) reject(error);
  }

  async #open(name) {
    const opening = indexedDB.open(name, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { autoIncrement: true });
    const database = await result(opening);
    if (this.#closed) return null;
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    const known = await result(database.transaction(TABLE).objectStore(TABLE).getAll());
    for (const action of known.filter(({ id }) => !this.#done.has(id))) {
      this.#onPut(action);
      if (action.isSent) this.#onSent(action.id);
    }
    this.#done = null;
    queueMicrotask(() => void this.#stand());
    return database;
  }

  #hear({ action, sent, id, outcome }) {
    if (action !== undefined) this.#onPut(action);
    else if (sent !== undefined) this.#onSent(sent);
    else this.#settle(id, outcome);
    this.#news();
  }

  #settle(id, { answer, error }) {
    this.#done?.add(id);
    this.#onDone(id, { answer, error });
    const { resolve, reject } = this.#waiting.get(id) ?? {};
    this.#waiting.delete(id);
    if (error === undefined) resolve?.(answer);
    else reject?.(new StatestreamError(error.detail, error));
  }

  /** Sends once no other page does, until it sleeps. */
  async #stand() {
    const { signal } = (this.#turn = new AbortController()), database = await this.#database;
    if (database === null) return;
    await navigator.locks.request(database.name, { signal }, () => this.#run(signal)).catch(() => {}); // it sleeps
  }

  async #run(signal) {
    while (!signal.aborted) {
      const news = new Promise((resolve) => (this.#news = resolve)), next = await this.#first();
      if (next === null || globalThis.navigator.onLine === false) await news;
      else await Promise.race([this.#deliver(next, signal), aborted(signal)]);
    }
  }

  async #deliver({ key, value: { isSent, ...action } }, signal) {
    const { id } = action, outcome = {};
    if (!isSent) {
      await this.#change((table) => table.put({ ...action, isSent: true }, key));
      this.#channel.postMessage({ sent: id });
      this.#onSent(id);
    }
    try {
      outcome.answer = await this.#send(action);
    } catch (error) {
      if (isUndecided(error) || signal.aborted) return this.#rest(error.retryAfter);
      outcome.error = { ...error };
    }
    this.#settle(id, outcome);
    this.#channel.postMessage({ id, outcome });
    await this.#change((table) => table.delete(key));
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
