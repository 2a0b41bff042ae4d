/* talk.js: the chat that is open: what it contains, who is there, and what this person can do in it.
 *
 * A new chat has an id of its own from the beginning, and exists on the server from its first message on.
 *
 * Invariants: what is shown is the state of the server. A message keeps its id however often it is sent, so it is asked
 * once.
 */
import { Desk, NEW, keyOf, peopleIn, typingIn, viewOf } from "../conversation.js";
import { newId } from "../dispatch.js";
import { Earlier } from "./earlier.js";
import { ask, chatPath } from "./server.js";

const none = [];
const valueIn = (state, name) => (Object.hasOwn(state, name) ? state[name] : null);

export class Talk {
  #base;
  #me;
  #client;
  #names;
  #earlier;
  #messages = { live: null, earlier: null, all: [] };
  #report;

  /** `onChange()` is called at most once per frame. */
  constructor(base, me, { id = newId(), isNew = false }, onChange) {
    [this.#base, this.#me, this.id, this.isNew] = [base, me, id, isNew];
    const key = keyOf(this.id);
    this.#names = { chat: `chat/${key}`, presence: `presence/${key}` };
    this.#client = base.follow(Object.values(this.#names));
    this.#client.subscribe(onChange);
    this.#earlier = new Earlier(this.id);
    this.#report = typingIn(this.id, base.request);
    this.desk = new Desk(
      this.id,
      () => this.view,
      (path, body, options) =>
        path === chatPath(this.id, "/stream") ? this.#ask(body, options) : base.request(path, body, options),
    );
  }

  get health() {
    return this.#client.health;
  }

  /** The value of the slice; null if there is none, undefined before the first state. */
  get value() {
    return this.#client.position === null ? undefined : valueIn(this.#client.state, this.#names.chat);
  }

  get view() {
    const { value } = this;
    if (this.isNew && !value) return NEW;
    return viewOf(value);
  }

  get exists() {
    return Boolean(this.value);
  }

  /** All messages that are known, oldest first: earlier ones, then the live ones. */
  get messages() {
    this.#earlier.follow(this.value?.messages ?? none);
    const live = this.view.messages,
      earlier = this.#earlier.above(live[0]);
    if (this.#messages.live !== live || this.#messages.earlier !== earlier)
      this.#messages = { live, earlier, all: earlier.length === 0 ? live : [...earlier, ...live] };
    return this.#messages.all;
  }

  get hasEarlier() {
    return this.#earlier.hasMore(this.messages[0]);
  }

  loadEarlier() {
    return this.#earlier.load(this.value?.messages ?? [], this.view.messages[0]);
  }

  /** Those who are here: {name, since, typing}. */
  get present() {
    return peopleIn(valueIn(this.#client.state, this.#names.presence));
  }

  /** The names of those who take part: {owner, participants}. */
  get people() {
    const { user, participants = [] } = this.value ?? {};
    return {
      owner: user === undefined ? null : decodeURIComponent(user),
      participants: participants.map(decodeURIComponent),
    };
  }

  /** Whether there is anybody who could see more than one name. */
  get isShared() {
    return this.people.participants.length > 0;
  }

  /** Sends a message: {id, text, files}. Throws a StatestreamError. */
  async send({ id, text, files }) {
    const parts = [
      ...files.map(({ mediaType, url, filename }) => ({ type: "file", mediaType, url, filename })),
      ...(text === "" ? [] : [{ type: "text", text }]),
    ];
    await this.#ask({ messages: [{ id, role: "user", parts }] }, { attempts: 1 });
  }

  /** Asks, in a chat that this creates if necessary. A reply that fails cuts off a response of plain text, which
   * browsers report as an error; a response of this route ends in good order. */
  #ask(body, options) {
    return this.#base.request("api/chat", { id: this.id, ...body }, options);
  }

  /** What a message says; null if the chat does not have it. */
  textOf(message) {
    const parts = this.value?.messages.find(({ id }) => id === message)?.parts;
    return parts === undefined ? null : parts.map(({ text = "" }) => text).join("");
  }

  /** Reports that this person is typing. The server knows who is here only after their stream has come. */
  setTyping(typing) {
    if (this.exists && this.present.some(({ name }) => name === this.#me)) this.#report(typing);
  }

  invite = (name) => ask("POST", chatPath(this.id, "/participants"), { subject: name });

  remove = (name) => ask("DELETE", chatPath(this.id, `/participants/${encodeURIComponent(name)}`));

  delete = () => ask("DELETE", chatPath(this.id));

  close() {
    this.#client.close();
  }
}
