/* talk.js: the chat that is open: what it contains, who is there, and what this person can do in it.
 *
 * A new chat has an id of its own from the beginning, and exists on the server from its first message on.
 *
 * Invariants: what is shown is the state of the server. A message keeps its id however often it is sent, so it is asked
 * once.
 */
import { archiveOf } from "../archive.js";
import { EMPTY, deskOf, keyOf, peopleIn, typingIn } from "../conversation.js";
import { newId } from "../dispatch.js";
import { ask, chatPath } from "./server.js";

const valueIn = (state, name) => (Object.hasOwn(state, name) ? state[name] : null);

export class Talk {
  #base;
  #me;
  #client;
  #names;
  #archive;
  #report;

  /** `onChange()` is called at most once per frame. */
  constructor(base, me, { id = newId(), isNew = false }, onChange) {
    [this.#base, this.#me, this.id, this.isNew] = [base, me, id, isNew];
    const key = keyOf(this.id);
    this.#names = { chat: `chat/${key}`, presence: `presence/${key}` };
    this.#client = base.follow(Object.values(this.#names));
    this.#client.subscribe(onChange);
    this.#archive = archiveOf(this.id, base.request, onChange);
    this.#report = typingIn(this.id, base.request);
    const desk = deskOf(
      this.id,
      () => this.view,
      (path, body, options) =>
        path === chatPath(this.id, "/stream") ? this.#ask(body, options) : base.request(path, body, options),
    );
    this.desk = { ...desk, carryOn: (message) => this.#carryOn(message) };
  }

  get health() {
    return this.#client.health;
  }

  /** The value of the slice; null if there is none, undefined before the first state. */
  get value() {
    return this.#client.position === null ? undefined : valueIn(this.#client.state, this.#names.chat);
  }

  /** The chat as people see it, from the oldest message that is known. */
  get view() {
    const { value } = this;
    return this.#archive.viewOf(this.isNew && !value ? EMPTY : value);
  }

  get exists() {
    return Boolean(this.value);
  }

  get messages() {
    return this.view.messages;
  }

  loadOlder() {
    return this.#archive.load();
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

  /** Lets a reply continue that was cut off. */
  #carryOn(message) {
    const body = { message, leaf: this.view.leaf };
    return this.#base.request(chatPath(this.id, "/continue"), body, { attempts: 1 });
  }

  /** Whether the chat has the message with that id, among those that are live. */
  has(message) {
    return this.value?.messages.some(({ id }) => id === message) ?? false;
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
