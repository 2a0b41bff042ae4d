/* react.d.ts: the types of react.js.
 *
 * Invariants: it declares all that the module exports, and nothing else. A test compiles a strict program against it.
 */
import type { ReactElement, ReactNode } from "react";
import type { Actions, Client, ConnectOptions, Health, Slices, StatestreamError } from "./statestream.js";

/** Either `client`, which you have made with `connect` and close yourself, or a `url` and the options of `connect`. */
export type ProviderProps =
  | { readonly children?: ReactNode; readonly client: Client<any, any> }
  | ({ readonly children?: ReactNode; readonly client?: undefined; readonly url: string | URL } & ConnectOptions);

/** Gives the components in it a client.
 *
 * With `url`, it connects when it is mounted in a browser, and disconnects a second after it is unmounted. With
 * `snapshot`, the components show that from the first rendering on, also on a server.
 */
export function StatestreamProvider(props: ProviderProps): ReactElement;

/** Compares two results of a selector. */
export type IsEqual<Selected> = (before: Selected, after: Selected) => boolean;

/** The value of a slice; undefined while it does not exist, or before the first state. */
export function useSlice<Value = any>(name: string): Value | undefined;
/** What `selector` finds in the value of a slice. The component is rendered again if it is not equal to the one before.
 *
 * `isEqual` is by default `areShallowEqual`. The selector is not called while the slice does not exist.
 */
export function useSlice<Value = any, Selected = unknown>(
  name: string,
  selector: (value: Value) => Selected,
  isEqual?: IsEqual<Selected>,
): Selected | undefined;

/** The function that dispatches actions, as `dispatch` of a client. It is the same until the provider connects anew. */
export function useDispatch<Payloads extends Actions = Record<string, any>>(): Client<any, Payloads>["dispatch"];

/** What the provider's connection does; with `name`, what the one does that has this slice. */
export function useHealth(name?: string): Health;

/** Who is in a chat. A component that uses it makes the person present, too. */
export function usePresence(chat: string): Presence;

export interface Presence {
  /** By when they came. */
  readonly people: readonly Person[];
  /** Reports that this person is typing, or not any more. Call it on each keystroke: it sends at most once every 3 s. */
  readonly setTyping: (this: void, typing?: boolean) => void;
}

export interface Person {
  readonly name: string;
  /** Unix ms. */
  readonly since: number;
  readonly typing: boolean;
}

/** A chat, and what to do in it. Without an id, it is a new one, which begins with the first message.
 *
 * The component is rendered again if something has changed that it reads: one that reads `ids` and not `messages` is
 * not rendered again while a reply grows.
 */
export function useChat(id?: string): Chat;

export interface Chat {
  /** The ids of the messages that are shown, oldest first. */
  readonly ids: readonly string[];
  /** The messages that are shown, oldest first. Those that have not changed are the same objects. */
  readonly messages: readonly ChatMessage[];
  /** `loading` before the first state; `missing`: there is no such chat for this person; `streaming`: a reply grows;
   * `waiting`: a tool call of the last reply waits for approval or for a window.
   */
  readonly status: "loading" | "missing" | "ready" | "streaming" | "waiting";
  readonly title: string | undefined;
  /** The newest message that is shown. */
  readonly leaf: string | undefined;
  /** Whether the server has messages above these, which `loadOlder` adds. */
  readonly hasOlder: boolean;
  /** Why there will be no further changes; null as long as the chat is followed. */
  readonly error: StatestreamError | null;
  /** Asks. Resolves to the id of the chat once the server has the message. */
  readonly send: (this: void, content: Content, options?: { readonly agent?: string }) => Promise<string>;
  /** Asks something else in place of a message. */
  readonly edit: (this: void, message: string, content: Content) => Promise<void>;
  /** Asks for another reply, in place of the last one or of `message`. */
  readonly regenerate: (this: void, message?: string) => Promise<void>;
  /** Approves or denies a waiting tool call, by the id of its approval: `part.approval.id`. */
  readonly decide: (this: void, approval: string, approved: boolean, options?: Verdict) => Promise<void>;
  /** Adds up to 100 older messages, for all components that show this chat. It throws a StatestreamError. */
  readonly loadOlder: (this: void) => Promise<void>;
  /** Stops the reply for everybody, and keeps its text. */
  readonly stop: (this: void) => Promise<void>;
  /** Shows everybody the branch with that message. */
  readonly branch: (this: void, message: string) => Promise<void>;
}

/** `arguments` replaces all arguments of the call. `reason` is shown; the model receives it if the call is denied. */
export interface Verdict {
  readonly arguments?: Readonly<Record<string, unknown>>;
  readonly reason?: string;
}

/** Text, or parts. */
export type Content = string | readonly (TextPart | FilePart | DataPart)[];

/** One message of a chat; undefined while it is not shown. */
export function useMessage(chat: string, message: string): ChatMessage | undefined;

export interface ChatMessage {
  readonly id: string;
  readonly role: "user" | "assistant";
  readonly status: "streaming" | "waiting" | "complete" | "stopped" | "error";
  /** All its text, without reasoning and tools. */
  readonly text: string;
  readonly parts: readonly (TextPart | ToolPart | SourcePart | AgentPart | FilePart | DataPart)[];
  /** The ids of the other versions of this message, and its own, in the order of creation. */
  readonly siblings: readonly string[];
  readonly parent?: string;
  readonly author?: string;
  /** The metadata that a front end of the AI SDK posted with the message. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly model?: string;
  readonly finish_reason?: string;
  /** The reply that was cut off and that this one continues. */
  readonly continues?: string;
  readonly usage?: Usage;
  /** In the currency of the prices of the chat. */
  readonly cost?: number;
  readonly error?: { readonly kind: string; readonly message: string };
  readonly run?: Readonly<Record<string, string | number | boolean>>;
  /** Unix ms. */
  readonly created_at: number;
  readonly updated_at: number;
}

/** Numbers of tokens. */
export interface Usage {
  readonly input: number;
  readonly output: number;
  readonly reasoning?: number;
  readonly cached?: number;
}

export interface TextPart {
  readonly type: "text" | "reasoning";
  readonly text: string;
  readonly step?: number;
  /** The call that shows the nested run to which this belongs. */
  readonly of?: string;
}

export interface ToolPart {
  readonly type: "tool";
  readonly call: string;
  readonly name: string;
  /** The JSON that the model has written so far. */
  readonly arguments: string;
  readonly status: "streaming" | "waiting" | "running" | "complete" | "error" | "denied";
  readonly result?: unknown;
  readonly error?: string;
  readonly approval?: ToolApproval;
  /** For a front-end tool: a window may claim the call, run it, and send its result. */
  readonly offer?: { readonly id: string; readonly window?: string; readonly until?: number };
  readonly step?: number;
  /** The call that shows the nested run to which this belongs. */
  readonly of?: string;
}

/** Whether a tool call may run: `approved` is undefined until somebody, `by`, has decided. */
export interface ToolApproval {
  readonly id: string;
  /** The role that a person needs to decide. */
  readonly role?: string;
  /** When the reply ends if nobody has decided by then, in Unix ms. */
  readonly expires_at?: number;
  readonly approved?: boolean;
  readonly by?: string;
  readonly reason?: string;
}

/** A page that a reply is based on. */
export interface SourcePart {
  readonly type: "source";
  readonly url: string;
  readonly title?: string;
  readonly step?: number;
  /** The call that shows the nested run to which this belongs. */
  readonly of?: string;
}

/** From here on, another agent speaks. `by` is the agent that has handed over to it. */
export interface AgentPart {
  readonly type: "agent";
  readonly name: string;
  readonly by?: string;
  readonly note?: string;
  readonly step?: number;
}

export interface FilePart {
  readonly type: "file";
  readonly mediaType: string;
  readonly url: string;
  readonly filename?: string;
  readonly step?: number;
}

export interface DataPart {
  readonly type: `data-${string}`;
  readonly id?: unknown;
  readonly data?: unknown;
}

/** The hooks with the types of a server's slices and actions. */
export interface Hooks<State extends Slices, Payloads extends Actions> {
  useSlice<Name extends keyof State & string>(name: Name): State[Name] | undefined;
  useSlice<Name extends keyof State & string, Selected>(
    name: Name,
    selector: (value: State[Name]) => Selected,
    isEqual?: IsEqual<Selected>,
  ): Selected | undefined;
  useDispatch(): Client<State, Payloads>["dispatch"];
  useHealth: typeof useHealth;
  usePresence: typeof usePresence;
  useChat: typeof useChat;
  useMessage: typeof useMessage;
}

/** The hooks, with types. Call it once, in a module of its own, and import the hooks from there. */
export function createHooks<
  State extends Slices = Record<string, any>,
  Payloads extends Actions = Record<string, any>,
>(): Hooks<State, Payloads>;

/** Whether two values are the same, or two objects or arrays whose members are the same. */
export function areShallowEqual(one: unknown, other: unknown): boolean;
