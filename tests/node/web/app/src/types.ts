/* types.ts: what the types of the package allow, and what they do not. It is compiled, and never runs. */
import { connect, StatestreamError, ticket } from "statestream";
import { optimistic } from "statestream/optimistic";
import { runTools } from "statestream/tools";
import type { Client, Health, Result, Update } from "statestream";
import type { Payloads, State, Task } from "./board";

declare const client: Client<State, Payloads>;

export async function typed(): Promise<void> {
  const tasks: readonly Task[] | undefined = client.state.board?.tasks;
  const members: readonly string[] | undefined = client.state["room/42"]?.members;
  const first: Readonly<State> = await client.ready;
  const count: number = first.board.count;
  const show = (now: readonly Task[], before?: readonly Task[]) => void [now, before];
  const end: () => void = client.select((state) => state.board.tasks, show);
  client.select((state) => state.counter, (now: number) => now)();
  const task = { id: "1", title: "Ship it" };
  const result: Result = await client.dispatch("board/task_added", task, { id: "r", expect: { board: 1 } });
  await client.dispatch("board/counted");
  await client.dispatch("room/joined", { name: "Ada" }, { key: "42" });
  const stop = client.subscribe((updates: readonly Update[]) => {
    for (const update of updates) {
      if (update.kind === "initial") update.reason.length;
      else if (update.kind === "patches") update.patches[0]?.path;
      else update.slice.length + (update.cause?.type.length ?? 0);
    }
  });
  const { level, phase, error }: Health = client.health;
  const { subscribe, close } = client; // they need no `this`
  void [tasks, members, count, result, stop, level, phase, error?.code, subscribe, end];
  close();

  // @ts-expect-error: before the first state, no slice is there
  client.state.board.tasks;
  // @ts-expect-error: a state is not written to
  client.state.counter = 1;
  // @ts-expect-error: there is no such slice
  client.select((state) => state.nothing, () => {});
  // @ts-expect-error: a selector gives tasks, not numbers
  client.select((state) => state.board.tasks, (now: number) => now);
  // @ts-expect-error: there is no such action
  await client.dispatch("board/nothing");
  // @ts-expect-error: the payload lacks a member
  await client.dispatch("board/task_added", { id: "1" });
  // @ts-expect-error: the payload is missing
  await client.dispatch("room/joined");
  // @ts-expect-error: a key is text
  await client.dispatch("board/counted", {}, { key: 42 });
}

export async function untyped(): Promise<void> {
  const anything = connect("https://live.example.org", { token: async () => "token", fetch: (url, init) => fetch(url, init) });
  anything.state["board"]?.tasks.length;
  await anything.dispatch("board/anything", { at: "all" });
  connect("/", { slices: "board,room/*", token: "token" });
  connect(new URL("https://live.example.org"));
  await ticket("/tickets", "token", { fetch: (url, init) => fetch(url, { ...init, credentials: "include" }) });
  const { code, status, detail, reason, retryAfter } = new StatestreamError("it failed", { code: "failed" });
  void [code.length, status + 1, detail.length, reason?.length, retryAfter];
  // @ts-expect-error: there is no such option
  connect("/", { slice: "board" });
  // @ts-expect-error: a token is text
  connect("/", { token: 42 });
}

interface Declared {
  board: { tasks: string[] };
}
export const declared: Client<Declared> = connect<Declared>("/"); // an interface will do as well

export function expected(): void {
  const reducers = optimistic<State, Payloads>({
    "board/task_added": (board, task) => ({ ...board, tasks: [...board.tasks, task] }),
    "room/joined": (room, { name }) => ({ members: [...(room?.members ?? []), name] }),
  });
  connect<State, Payloads>("/", { identity: "ada", optimistic: reducers });
  optimistic({ "board/anything": (board, { at }) => ({ ...board, at }) });
  // @ts-expect-error: there is no such action
  optimistic<State, Payloads>({ "board/nothing": (board) => board });
  // @ts-expect-error: a board has a count
  optimistic<State, Payloads>({ "board/task_added": ({ tasks }, task) => ({ tasks: [...tasks, task] }) });
  // @ts-expect-error: a room may not exist yet
  optimistic<State, Payloads>({ "room/joined": (room, { name }) => ({ members: [...room.members, name] }) });
}

export function offered(): void {
  const locate = async ({ precision }: { precision: string }, { signal }: { signal: AbortSignal }) => ({ precision, signal });
  const stop: () => void = runTools(client, "42", { locate, now: () => Date.now() });
  stop();
  // @ts-expect-error: a chat has a text as its id
  runTools(client, 42, {});
  // @ts-expect-error: a tool is a function
  runTools(client, "42", { locate: 7 });
}
