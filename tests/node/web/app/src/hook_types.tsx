/* hook_types.tsx: what the types of the hooks allow, and what they do not. It is compiled, and never runs. */
import { connect, type Health, type Result, type Snapshot } from "statestream";
import * as untyped from "statestream/react";
import { useTools } from "statestream/react-tools";
import { areShallowEqual, StatestreamProvider, type ChatMessage } from "statestream/react";
import type { Payloads, State, Task } from "./board";
import { useChat, useDispatch, useHealth, useMessage, usePresence, useSlice } from "./hooks";

export function Typed() {
  const board: State["board"] | undefined = useSlice("board");
  const tasks: readonly Task[] | undefined = useSlice("board", (board) => board.tasks);
  const made: { n: number } | undefined = useSlice("board", ({ count }) => ({ n: count }), (a, b) => a.n === b.n);
  const deep: number[] | undefined = useSlice("board", ({ tasks }) => tasks.map(({ title }) => title.length), areShallowEqual);
  const members: readonly string[] | undefined = useSlice("room/42")?.members;
  const dispatch = useDispatch(), { phase, level, error }: Health = useHealth(), other: Health = useHealth("room/42");
  const { people, setTyping } = usePresence("42"), chat = useChat("42"), fresh = useChat();
  const message: ChatMessage | undefined = useMessage("42", chat.ids[0] ?? "");
  const add = async (): Promise<Result> => {
    await dispatch("board/counted");
    const id: string = await fresh.send("Hello?");
    await chat.send([{ type: "text", text: id }, { type: "file", mediaType: "image/png", url: "https://example.org/a.png" }]);
    await chat.edit("1", "Hello!");
    await chat.regenerate();
    await chat.branch(message?.siblings[0] ?? "");
    await chat.stop();
    if (chat.hasOlder) await chat.loadOlder();
    return dispatch("board/task_added", { id: "1", title: "Ship it" }, { id: "r" });
  };
  useTools("42", { locate: async ({ precision }: { precision: string }) => precision });
  useTools(undefined, {});
  setTyping();
  setTyping(false);
  void [board, tasks, made, deep, members, phase, level, error?.code, other, people[0]?.name, people[0]?.typing, add];
  const parts = message?.parts.map((part) => (part.type === "tool" ? part.status : part.type === "file" ? part.url : ""));
  void [parts, chat.title?.length, chat.status === "streaming", chat.error?.detail];

  // @ts-expect-error: before the first state, there is no board
  board.tasks;
  // @ts-expect-error: there is no such slice
  useSlice("nothing");
  // @ts-expect-error: a board has no such member
  useSlice("board", ({ nothing }) => nothing);
  // @ts-expect-error: the payload lacks a member
  void dispatch("board/task_added", { id: "1" });
  // @ts-expect-error: there is no such action
  void dispatch("board/nothing");
  // @ts-expect-error: a chat has a text as its id
  useChat(42);
  // @ts-expect-error: a tool is a function
  useTools("42", { locate: 7 });
  // @ts-expect-error: a message is not written to
  chat.messages[0]!.text = "";
  return null;
}

export function Untyped() {
  const anything = untyped.useSlice("board");
  const typed: number | undefined = untyped.useSlice<{ n: number }>("board")?.n;
  const selected: number | undefined = untyped.useSlice("board", (board: { n: number }) => board.n);
  const dispatch = untyped.useDispatch(), strict = untyped.useDispatch<Payloads>();
  void [anything.any.thing, typed, selected, dispatch("board/any", 1), strict("room/joined", { name: "Ada" }, { key: "1" })];
  // @ts-expect-error: the payload is missing
  void strict("room/joined");
  return null;
}

declare const snapshot: Snapshot;

export const provided = [
  <StatestreamProvider url="/" slices={["board"]} snapshot={snapshot} token={async () => "token"}><Typed /></StatestreamProvider>,
  <StatestreamProvider client={connect<State, Payloads>("/", { snapshot })}><Typed /></StatestreamProvider>,
  // @ts-expect-error: neither a client nor a URL
  <StatestreamProvider><Typed /></StatestreamProvider>,
  // @ts-expect-error: a client has its own options
  <StatestreamProvider client={connect("/")} slices={["board"]}><Typed /></StatestreamProvider>,
];

export async function more(): Promise<void> {
  const client = connect<State, Payloads>("/", { slices: ["board"] });
  const other = client.follow(["room/42"]);
  const members: readonly string[] | undefined = other.state["room/42"]?.members;
  const { id } = await client.request("api/chats", {}, { attempts: 1 });
  const { messages } = await client.request(`api/chats/${id}/messages?before=m`, undefined, { method: "GET" });
  const waiting: string[] = client.pending.map(({ payload, key }) => key ?? payload.id);
  // @ts-expect-error: there is no such method
  await client.request("api/chats", {}, { method: "PATCH" });
  void [messages, waiting, members, id, client.slices, connect("/", { snapshot: client.snapshot ?? undefined })];
}
