// Written by `statestream types`. Change the slices instead of this file, and write it again.

/** The values of the slices, by their names. */
export interface State {
  [key: `chat/${string}`]: Conversation;
  [key: `chats/${string}`]: ChatList;
  [key: `chat_archive/${string}`]: unknown;
  [key: `presence/${string}`]: unknown;
  [key: `chat_nodes/${string}`]: unknown;
}

/** The payloads of the actions, by their types. */
export interface Actions {
}

/** A chat, as its slice has it. `leaf` is the newest message that is shown, `user` the owner. */
export interface Conversation {
  messages: ChatMessage[];
  leaf?: string;
  title?: string;
  user?: string;
  participants?: string[];
}

/** A message of a person or a model. `parent` is the message above it. */
export interface ChatMessage {
  id: string;
  role: "user" | "assistant";
  status: "streaming" | "complete" | "stopped" | "error";
  parts: (WrittenPart | ToolPart | FilePart | DataPart)[];
  parent?: string;
  author?: string;
  run?: Run;
  model?: string;
  finish_reason?: string;
  usage?: Tokens;
  error?: Failure;
  /** Unix time in ms. */
  created_at: number;
  /** Unix time in ms. */
  updated_at: number;
}

/** Text or reasoning: `text`, followed by the chunks. */
export interface WrittenPart {
  type: "text" | "reasoning";
  text: string;
  /** What follows the text while it grows. */
  chunks?: string[];
  /** The step of the reply; absent in the first one. */
  step?: number;
}

/** A tool call, and its outcome. */
export interface ToolPart {
  type: "tool";
  call: string;
  name: string;
  arguments: string;
  /** What follows the text while it grows. */
  chunks?: string[];
  status: "streaming" | "running" | "complete" | "error";
  result?: unknown;
  error?: string;
  /** The step of the reply; absent in the first one. */
  step?: number;
}

/** A file that a person has posted. */
export interface FilePart {
  type: "file";
  mediaType: string;
  url: string;
  filename?: string;
}

/** Data of a front end, which the server only keeps. */
export interface DataPart {
  type: `data-${string}`;
  id?: unknown;
  data?: unknown;
}

/** The making of a reply: while it lasts, the node; afterwards measurements. */
export interface Run {
  id: string;
  node?: string;
  duration_ms?: number;
  first_piece_ms?: number;
  pieces?: number;
  tokens_per_second?: number;
}

/** What a reply cost. `reasoning` is included in `output`, and `cached` in `input`. */
export interface Tokens {
  input: number;
  output: number;
  reasoning?: number;
  cached?: number;
}

/** Why a reply failed: for programs, and a sentence for people. */
export interface Failure {
  kind: string;
  message: string;
}

/** The newest chats of a person, by their ids. */
export interface ChatList {
  chats: { [key: string]: ListedChat };
}

/** The entry of a chat in the list of a person. */
export interface ListedChat {
  /** Unix time in ms. */
  created_at: number;
  /** Unix time in ms. */
  updated_at: number;
  status: "idle" | "streaming";
  title?: string;
}
