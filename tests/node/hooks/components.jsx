/* components.jsx: what the pages of the tests show, in a browser and on a server. Each part counts its renderings.
 *
 * Invariants: a part is what a reader of the documentation would write. `renders` counts calls of components, so with
 * Strict Mode, which calls each twice, it is only compared with itself.
 */
import { Component, lazy, memo, Suspense, useLayoutEffect, useState, useTransition } from "react";
import { StatestreamProvider, useChat, useMessage, usePresence } from "statestream/react";
import { useDispatch, useHealth, useSlice } from "statestream/react";
import { useTools } from "statestream/react-tools";

export const renders = {};

function counted(name) {
  renders[name] = (renders[name] ?? 0) + 1;
}

function Phase() {
  counted("phase");
  return <output>{useHealth().phase}</output>;
}

function Tasks() {
  counted("tasks");
  const tasks = useSlice("board", (board) => board.tasks);
  return <ul id="tasks">{tasks?.map(({ id, title }) => <li key={id}>{title}</li>)}</ul>;
}

function Count() {
  counted("count");
  return <b id="count">{useSlice("board", ({ count }) => count) ?? "none"}</b>;
}

/** A selector that makes a new object each time. */
function Summary() {
  counted("summary");
  const summary = useSlice("board", ({ tasks }) => ({ first: tasks[0], titles: tasks.length }));
  return <p id="summary">{summary?.titles} {summary?.first?.title}</p>;
}

/** One whose objects are never equal. */
function Nested() {
  counted("nested");
  const nested = useSlice("board", ({ tasks }) => ({ all: tasks.map(({ title }) => ({ title })) }));
  return <p id="nested">{nested?.all.length}</p>;
}

/** One that compares as it likes. */
function Parity() {
  counted("parity");
  const isEqual = (one, other) => one.count % 2 === other.count % 2;
  const board = useSlice("board", (board) => board, isEqual);
  return <p id="parity">{board && board.count % 2}</p>;
}

function Room({ name }) {
  counted("room");
  const room = useSlice(`room/${name}`);
  return <p id="room">{name}: {room?.members.join() ?? "nobody"}</p>;
}

export function Board() {
  const dispatch = useDispatch(), [room, setRoom] = useState("1");
  counted("board");
  const add = (event) => {
    event.preventDefault();
    const title = event.target.title.value;
    dispatch("board/task_added", { id: title, title });
  };
  return (
    <>
      <Phase /><Tasks /><Count /><Summary /><Nested /><Parity /><Room name={room} />
      <form onSubmit={add}><input name="title" /></form>
      <button id="other" onClick={() => setRoom("2")}>Other room</button>
    </>
  );
}

const Message = memo(function Message({ chat, id }) {
  counted(`message ${id}`);
  const message = useMessage(chat, id);
  return message && <li className={`${message.role} ${message.status}`}>{message.text}</li>;
});

function Conversation({ id }) {
  counted("conversation");
  const chat = useChat(id), { ids, status, send, hasOlder, loadOlder } = chat, [all, setAll] = useState(false);
  return (
    <>
      <output>{status}</output>
      {hasOlder && <button id="older" onClick={loadOlder}>Older messages</button>}
      <ol>{ids.map((each) => <Message key={each} chat={id} id={each} />)}</ol>
      <button id="all" onClick={() => setAll(!all)}>All</button>
      {all && <p id="texts">{chat.messages.map(({ text }) => text).join("|")}</p>}
      <form onSubmit={(event) => (event.preventDefault(), send(event.target.text.value))}><input name="text" /></form>
    </>
  );
}

/** What a page without care for renderings does. `globalThis.chat` is what it has. */
function Everything({ id, onStart }) {
  counted("everything");
  const chat = useChat(id);
  globalThis.chat = chat;
  globalThis.seen.texts?.push(chat.messages.at(-1)?.text);
  const ask = async (event) => {
    event.preventDefault();
    onStart(await chat.send(event.target.text.value));
  };
  return (
    <>
      <output>{chat.status}</output>
      <h1>{chat.title}</h1>
      <ol>{chat.messages.map(({ id, text, role }) => <li key={id} className={role}>{text}</li>)}</ol>
      <form onSubmit={ask}><input name="text" /></form>
    </>
  );
}

export function People({ id }) {
  const { people, setTyping } = usePresence(id);
  globalThis.setTyping = setTyping;
  return <ul id="people">{people.map(({ name, typing }) => <li key={name}>{name}{typing && " is typing"}</li>)}</ul>;
}

/** Runs a tool. `globalThis.locate` is what it does. */
function Window({ id }) {
  counted("window");
  useTools(id, { locate: (...given) => globalThis.locate(...given) });
  return <p id="window">open</p>;
}

/** A part that takes its time, so that the browser draws others before it. */
function Slow({ at }) {
  const until = performance.now() + 3, count = useSlice("board", ({ count }) => count);
  while (performance.now() < until);
  useLayoutEffect(() => void ((globalThis.counts ??= {})[at] = count));
  return <i>{count}</i>;
}

/** Many of these, which a click draws in the background. `globalThis.torn` is what one drawing has shown. */
function Heavy() {
  const [shown, setShown] = useState(false), [, startTransition] = useTransition();
  useLayoutEffect(() => {
    const counts = new Set(Object.values(globalThis.counts ?? {}));
    (globalThis.drawings ??= []).push(counts.size);
  });
  const count = useSlice("board", ({ count }) => count);
  return (
    <>
      <button id="heavy" onClick={() => startTransition(() => setShown(true))}>Show</button>
      <b id="count">{count}</b>
      {shown && Array.from({ length: 40 }, (_, at) => <Slow key={at} at={at} />)}
    </>
  );
}

/** Two parts of a page, of which the second is hydrated when `globalThis.openGate` is called. */
const Later = lazy(async () => {
  if (globalThis.document) await new Promise((resolve) => (globalThis.openGate = resolve));
  return { default: Tasks };
});
const Parts = () => <><Phase /><Count /><Suspense fallback="…"><Later /></Suspense></>;

/** Shows what a component throws. */
class Boundary extends Component {
  state = { error: null };
  static getDerivedStateFromError = (error) => ({ error });
  render = () => (this.state.error ? <output>{this.state.error.code}</output> : this.props.children);
}

function Chats({ chat: given, simple }) {
  const [chat, setChat] = useState(given);
  globalThis.setChat = setChat;
  return simple ? <Everything id={chat} onStart={setChat} /> : <Conversation id={chat} />;
}

/** Can be taken off the page. */
function Optional({ children }) {
  const [shown, setShown] = useState(true);
  globalThis.setShown = setShown;
  return shown && children;
}

/** `query`: what to show, from the address of the page. */
export function Page({ query, client, snapshot }) {
  const [changed, setChanged] = useState({});
  const given = { ...Object.fromEntries(new URLSearchParams(query)), ...changed };
  const { show = "board", slices, token } = given;
  globalThis.change = setChanged;
  if (show === "alone") return <Boundary><Count /></Boundary>;
  const chats = { chat: <Chats {...given} />, people: <People id={given.chat} />, window: <Window id={given.chat} /> };
  const shown = { board: <Board />, heavy: <Heavy />, parts: <Parts />, ...chats }[show];
  const props = client ? { client } : { url: "/", slices: slices?.split(",") ?? [], token, snapshot };
  if (slices === undefined) delete props.slices;
  return <Optional><StatestreamProvider {...props}>{shown}</StatestreamProvider></Optional>;
}
