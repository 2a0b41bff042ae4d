/* conversation.js: a chat as people see it, and what they can do in it.
 *
 * Invariants: the views are pure, and equal chats have the same view, whose messages are the same objects as long as
 * they do not change. What a person does is a request to the server; what comes of it arrives as state.
 */
import { newId } from "./dispatch.js";

const TYPING_MS = 3000; // between reports of typing, each of which is valid for twice as long

const UNFINISHED = ["streaming", "waiting"];

const none = Object.freeze([]);
const nothing = (status) => ({ ids: none, messages: none, status, title: undefined, leaf: undefined });
const LOADING = nothing("loading"), MISSING = nothing("missing");
export const NEW = nothing("ready"); // a chat that begins with its first message
const chats = new WeakMap(), messages = new WeakMap(); // the view of each value

/** The key that stands for a text in the name of a slice, as the server writes it. */
export function keyOf(text) {
  const spelt = (c) => (c[1] ? decodeURIComponent(c) : `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return encodeURIComponent(text).replace(/%3A|%40|[!'()*]/g, spelt);
}

/** `chat` is the value of the slice; null if there is no such chat, undefined before the first state. */
export function viewOf(chat) {
  if (!chat) return chat === null ? MISSING : LOADING;
  let view = chats.get(chat);
  if (view === undefined) chats.set(chat, (view = viewed(chat)));
  return view;
}

function viewed(chat) {
  const shown = pathOf(chat), siblings = siblingsIn(chat.messages), { title, leaf } = chat;
  return {
    ids: shown.map(({ id }) => id),
    messages: shown.map((message) => messageOf(message, siblings.get(placeOf(message)))),
    status: UNFINISHED.includes(shown.at(-1)?.status) ? shown.at(-1).status : "ready",
    title,
    leaf,
  };
}

/** The messages that are shown: the way up from the leaf, oldest first. Parents come before their children. */
function pathOf({ messages, leaf }) {
  const shown = [];
  for (let at = messages.length - 1, wanted = leaf; at >= 0; at -= 1)
    if (messages[at].id === wanted) wanted = (shown.push(messages[at]), messages[at].parent);
  return shown.reverse();
}

const placeOf = ({ parent, role }) => `${role} ${parent}`;

function siblingsIn(messages) {
  const siblings = new Map();
  for (const message of messages) {
    const place = placeOf(message), ids = siblings.get(place);
    if (ids) ids.push(message.id);
    else siblings.set(place, [message.id]);
  }
  return siblings;
}

/** A message whose parts have all their text, with its `text` and its `siblings`, itself included. */
function messageOf(message, siblings) {
  const seen = messages.get(message);
  if (seen?.siblings.join() === siblings.join()) return seen;
  const parts = message.parts.map(whole), texts = parts.filter(({ type }) => type === "text");
  const view = { ...message, parts, text: texts.map(({ text }) => text).join(""), siblings };
  messages.set(message, view);
  return view;
}

function whole(part) {
  if (part.chunks === undefined) return part;
  const { chunks, ...rest } = part, name = part.type === "tool" ? "arguments" : "text";
  return { ...rest, [name]: part[name] + chunks.join("") };
}

/** Those who are in a chat, by when they came. `presence` is the value of the slice. */
export function peopleIn(presence) {
  const people = Object.entries(presence?.people ?? {});
  const shown = people.map(([key, { since, typing = false }]) => ({ name: decodeURIComponent(key), since, typing }));
  return shown.sort((one, other) => one.since - other.since);
}

/** What a person can do in a chat. `look()` gives its view, `request` sends to the server as a client does. */
export class Desk {
  #id;
  #look;
  #request;
  #creating = null; // while the chat is created
  #unanswered = null; // the last message, until the server has accepted it

  constructor(id, look, request) {
    [this.#id, this.#look, this.#request] = [id, look, request];
  }

  /** Asks, in a new chat if there is none yet. Returns the id of the chat. */
  send = async (content, { agent } = {}) => {
    const same = this.#unanswered?.content === content;
    const message = (this.#unanswered = same ? this.#unanswered : { content, id: newId() }); // so that it is asked once
    if (this.#id === undefined) await (this.#creating ??= this.#create());
    await this.#ask({ messages: [messageWith(message.id, content)], agent });
    if (this.#unanswered === message) this.#unanswered = null;
    return this.#id;
  };

  edit = (message, content) => this.#ask({ messages: [messageWith(message, content)], leaf: this.#look().leaf });

  regenerate = (message) => {
    const { messages, leaf } = this.#look(), messageId = message ?? messages.findLast(isReply)?.id;
    return this.#ask({ trigger: "regenerate-message", messageId, leaf }, { attempts: 1 });
  };

  stop = async () => {
    const { status, leaf } = this.#look();
    if (UNFINISHED.includes(status)) await this.#post("stop", { activeStreamId: leaf });
  };

  /** Decides about a tool call that waits, by the id of its approval. */
  decide = async (id, approved, { arguments: given, reason } = {}) =>
    void (await this.#post("approvals", { decisions: [{ id, approved, arguments: given, reason }] }));

  branch = async (message) => void (await this.#post("branch", { message, leaf: this.#look().leaf }, { attempts: 1 }));

  async #create() {
    try {
      this.#id = (await this.#request("api/chats", {}, { attempts: 1 })).id;
    } finally {
      this.#creating = null;
    }
  }

  async #ask(body, options) {
    await this.#post("stream", body, options); // the reply arrives as state
  }

  #post(route, body, options) {
    return this.#request(`api/chats/${encodeURIComponent(this.#id)}/${route}`, body, options);
  }
}

/** A function that reports whether this person is typing. Nobody depends on it, so failures are ignored. */
export function typingIn(id, request) {
  let last = -Infinity;
  return (typing = true) => {
    const now = performance.now();
    if (typing && now - last < TYPING_MS) return;
    last = typing ? now : -Infinity;
    request(`api/chats/${encodeURIComponent(id)}/typing`, { typing }, { attempts: 1 }).catch(() => {});
  };
}

const isReply = ({ role }) => role === "assistant";

function messageWith(id, content) {
  return { id, role: "user", [typeof content === "string" ? "content" : "parts"]: content };
}
