/* conversation.js: a chat as people see it, and what they can do in it.
 *
 * Invariants: the views are pure, and equal chats have the same view, whose messages are the same objects as long as
 * they do not change. What a person does is a request to the server; what comes of it arrives as state.
 */
import { newId } from "./dispatch.js";

const TYPING_MS = 3000; // between reports of typing, each of which is valid for twice as long

export const UNFINISHED = ["streaming", "waiting"];

export const EMPTY = { messages: [] }; // a chat that begins with its first message
const LOADING = { ...viewed(EMPTY), status: "loading" }, MISSING = { ...LOADING, status: "missing" };
const chats = new WeakMap(), messages = new WeakMap(); // the view of each value

/** The key that stands for a text in the name of a slice, as the server writes it. */
export function keyOf(text) {
  const escaped = (character) => `%${character.charCodeAt().toString(16).toUpperCase()}`;
  return encodeURIComponent(text).replace(/[!'()*]/g, escaped).replace(/%3A|%40/g, decodeURIComponent);
}

/** `chat` is the value of the slice; null if there is no such chat, undefined before the first state. */
export function viewOf(chat) {
  if (!chat) return chat === null ? MISSING : LOADING;
  let view = chats.get(chat);
  if (view === undefined) chats.set(chat, (view = viewed(chat)));
  return view;
}

function viewed(chat) {
  const shown = branchOf(chat), siblings = siblingsIn(chat.messages), { title, leaf } = chat;
  return {
    ids: shown.map(({ id }) => id),
    messages: shown.map((message) => messageOf(message, siblings[placeOf(message)])),
    status: UNFINISHED.includes(shown.at(-1)?.status) ? shown.at(-1).status : "ready",
    title,
    leaf,
  };
}

/** The messages that are shown: the way up from the leaf, oldest first. */
function branchOf({ messages, leaf }) {
  const known = new Map(messages.map((message) => [message.id, message])), shown = [];
  for (let at = known.get(leaf); at; at = known.get(at.parent)) shown.push(at);
  return shown.reverse();
}

const placeOf = ({ parent, role }) => `${role} ${parent}`;

function siblingsIn(messages) {
  const siblings = {};
  for (const message of messages) (siblings[placeOf(message)] ??= []).push(message.id);
  return siblings;
}

/** A message whose parts have all their text, with its `text` and its `siblings`, itself included. */
function messageOf(message, siblings) {
  const seen = messages.get(message);
  if (seen?.siblings.join() === siblings.join()) return seen;
  const parts = message.parts.map(whole), text = parts.map(({ type, text, of }) => (type === "text" && !of ? text : "")).join("");
  const view = { ...message, parts, text, siblings };
  messages.set(message, view);
  return view;
}

function whole(part) {
  if (part.chunks === undefined) return part;
  const { chunks, ...rest } = part;
  rest[part.type === "tool" ? "arguments" : "text"] += chunks.join("");
  return rest;
}

/** Those who are in a chat, by when they came. `presence` is the value of the slice. */
export function peopleIn(presence) {
  const people = Object.entries(presence?.people ?? {});
  const shown = people.map(([key, { since, typing = false }]) => ({ name: decodeURIComponent(key), since, typing }));
  return shown.sort((one, other) => one.since - other.since);
}

/** What a person can do in a chat. `look()` gives its view, `request` sends to the server as a client does. */
export function deskOf(id, look, request) {
  let creating = null; // while the chat is created
  let unanswered = null; // the last message, until the server has accepted it

  async function create() {
    try {
      id = (await request("api/chats", {}, { attempts: 1 })).id;
    } finally {
      creating = null;
    }
  }

  const post = (route, body, options) => request(`api/chats/${encodeURIComponent(id)}/${route}`, body, options);
  const ask = (body, options) => post("stream", body, options); // the reply arrives as state

  return {
    /** Asks, in a new chat if there is none yet. Returns the id of the chat. */
    async send(content, { agent } = {}) {
      if (unanswered?.content !== content) unanswered = { content, id: newId() }; // the same one is asked once
      const message = unanswered;
      if (id === undefined) await (creating ??= create());
      await ask({ messages: [messageWith(message.id, content)], agent });
      if (unanswered === message) unanswered = null;
      return id;
    },

    edit: (message, content) => ask({ messages: [messageWith(message, content)], leaf: look().leaf }),

    regenerate(message) {
      const { messages, leaf } = look(), messageId = message ?? messages.findLast(isReply)?.id;
      return ask({ trigger: "regenerate-message", messageId, leaf }, { attempts: 1 });
    },

    async stop() {
      const { status, leaf } = look();
      if (UNFINISHED.includes(status)) await post("stop", { activeStreamId: leaf });
    },

    /** Decides about a tool call that waits, by the id of its approval. */
    decide: (id, approved, verdict) => post("approvals", { decisions: [{ ...verdict, id, approved }] }),

    branch: (message) => post("branch", { message, leaf: look().leaf }, { attempts: 1 }),
  };
}

/** A function that reports whether this person is typing. Nobody depends on it, so failures are ignored. */
export function typingIn(id, request) {
  let due = 0; // when the next report is
  return (typing = true) => {
    const now = performance.now();
    if (typing && now < due) return;
    due = typing ? now + TYPING_MS : 0;
    request(`api/chats/${encodeURIComponent(id)}/typing`, { typing }, { attempts: 1 }).catch(() => {});
  };
}

const isReply = ({ role }) => role === "assistant";

function messageWith(id, content) {
  return { id, role: "user", [typeof content === "string" ? "content" : "parts"]: content };
}
