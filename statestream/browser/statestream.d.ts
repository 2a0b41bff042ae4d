/* statestream.d.ts: the types of statestream.js.
 *
 * Invariants: it declares all that the module exports, and nothing else. A test compiles a strict program against it.
 */

/** The slices of a server, by full name. An instance of a keyed slice has a name such as `room/${string}`. */
export type Slices = object;

/** The payloads of a server's actions, by type. */
export type Actions = object;

/** A token, or a function that returns one: called for each connection, and again if the server refuses it with 401. */
export type TokenSource = string | (() => string | Promise<string>);

/** Sends requests in place of the page's `fetch`, for example with cookies for another origin or with more headers. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface ConnectOptions {
  /** Names, `name/*` or `*`, as an array or as one string with commas. Without them, every plain slice. */
  readonly slices?: readonly string[] | string | undefined;
  /** Sent as `Authorization: Bearer …` to the server, and nowhere else. */
  readonly token?: TokenSource | undefined;
  /** Sends all requests. A client with this option shares its connection with no other. */
  readonly fetch?: Fetch | undefined;
  /** Stands for the person, such as the id of an account. The clients of a browser with the same one share a stream. */
  readonly identity?: string | undefined;
  /** What `optimistic` of `optimistic.js` returns. */
  readonly optimistic?: Optimism | undefined;
  /** The answer of `GET /state` for the same slices. The client has this state at once, and continues after it. */
  readonly snapshot?: Snapshot | undefined;
}

/** The answer of `GET /state`. */
export interface Snapshot {
  readonly position: string;
  readonly slices: Readonly<Record<string, any>>;
  readonly versions: Readonly<Record<string, number>>;
}

/** Shows changes before the server has made them. What it contains may change with every version. */
export type Optimism = (client: never) => object;

/** Follows slices of the server at `url`, its root. Throws a StatestreamError if an argument cannot be right. */
export function connect<State extends Slices = Record<string, any>, Payloads extends Actions = Record<string, any>>(
  url: string | URL,
  options?: ConnectOptions,
): Client<State, Payloads>;

/** A live copy of a server's slices. */
export interface Client<State extends Slices = Record<string, any>, Payloads extends Actions = Record<string, any>> {
  /** What it follows, as it was passed to `connect`. */
  readonly slices: readonly string[] | string | undefined;
  /** The newest value of each slice; nothing until the first state has come. A value that you hold never changes. */
  readonly state: Readonly<Partial<State>>;
  /** The version of each slice. `expect` of a dispatch is compared with these. */
  readonly versions: Readonly<Record<string, number>>;
  /** The cursor: the position up to which this copy is complete. */
  readonly position: string | null;
  /** What the server has confirmed, to begin another client with; null while there is no cursor. */
  readonly snapshot: Snapshot | null;
  /** The actions shown at once that the server has not answered, also those of other tabs and from before a reload. */
  readonly pending: readonly PendingAction[];
  /** What the connection does. A new object after each change. */
  readonly health: Health;
  /** The first state. It is rejected if the server refuses for good before, or if you close the client. */
  readonly ready: Promise<Readonly<State>>;
  /** Calls `listener` after the state or the health has changed, at most once per frame of the screen.
   *
   * It receives the updates since the last call: none if only the health has changed. Returns a function that ends it.
   */
  subscribe(this: void, listener: (updates: readonly Update[]) => void): () => void;
  /** Calls `listener` with what `selector` finds in the first state, and again whenever that is another value.
   *
   * At most once per frame of the screen. Returns a function that ends it.
   */
  select<Value>(
    this: void,
    selector: (state: Readonly<State>) => Value,
    listener: (value: Value, before: Value | undefined) => void,
  ): () => void;
  /** Dispatches an action. It is sent again after a lost connection, and takes effect once.
   *
   * Throws a StatestreamError with the `code` of the server's refusal, or with `unavailable` if no attempt was answered.
   */
  dispatch<Type extends keyof Payloads & string>(
    this: void,
    type: Type,
    ...rest: {} extends Payloads[Type]
      ? [payload?: Payloads[Type], options?: DispatchOptions]
      : [payload: Payloads[Type], options?: DispatchOptions]
  ): Promise<Result>;
  /** Sends a POST with JSON to another route of the server, such as `api/chats`, with the token of the client.
   *
   * Resolves to the JSON of the answer; to null for any other answer. It is sent again after a lost connection, so pass
   * `attempts: 1` if repeating it is not safe. A `GET` sends no body. Throws a StatestreamError.
   */
  request(
    this: void,
    path: string,
    body?: unknown,
    options?: { readonly attempts?: number; readonly method?: "POST" | "GET" },
  ): Promise<any>;
  /** Another client of the same server, with the same token, that follows other slices. Close it yourself. */
  follow(this: void, slices: readonly string[] | string): Client<State, Payloads>;
  /** Ends the connection. No listener is called any more. */
  close(this: void): void;
}

export interface Health {
  /** `degraded` after 1.5 heartbeats of silence, `failed` after 2.5 and until the first state. */
  readonly level: "healthy" | "degraded" | "failed";
  /** `waiting`: the connection was lost, and the next one is not due yet. `ended`: there will be no other one. */
  readonly phase: "connecting" | "live" | "waiting" | "ended";
  /** Why the last connection broke or was refused; null while it is live, and after `close`. */
  readonly error: StatestreamError | null;
}

export type Update =
  | { readonly kind: "initial"; readonly reason: string; readonly position: string; readonly timestamp: number }
  | (Step & { readonly kind: "patches"; readonly patches: readonly Operation[] })
  | (Step & { readonly kind: "value"; readonly value: any })
  | (Step & { readonly kind: "removed" });

interface Step {
  readonly slice: string;
  readonly version: number;
  readonly position: string;
  /** The action that made the change; null if several were coalesced. */
  readonly cause: { readonly type: string; readonly id: string; readonly actor?: string } | null;
  /** Unix ms, for display only. */
  readonly timestamp: number;
}

/** An operation of RFC 6902. */
export interface Operation {
  readonly op: "add" | "remove" | "replace" | "move" | "copy" | "test";
  readonly path: string;
  readonly from?: string;
  readonly value?: unknown;
}

export interface DispatchOptions {
  /** The key of the instance, if the action is one of a keyed slice. */
  readonly key?: string | undefined;
  /** The id of the request. Pass your own if it has to survive a reload of the page. */
  readonly id?: string | undefined;
  /** The versions that slices must have, or the server refuses with `version_conflict`. */
  readonly expect?: Readonly<Record<string, number>> | undefined;
}

/** An action as it was dispatched. */
export interface PendingAction {
  readonly id: string;
  readonly type: string;
  readonly payload: any;
  readonly key: string | undefined;
}

export interface Result {
  readonly id: string;
  readonly position: string;
  /** Whether the request had taken effect before. */
  readonly duplicate: boolean;
  readonly changes: readonly { readonly slice: string; readonly version: number }[];
}

/** The server refused, or could not be reached. */
export class StatestreamError extends Error {
  constructor(
    detail: string,
    more?: { code?: string; status?: number; reason?: string; retryAfter?: number; cause?: unknown },
  );
  /** For programs, such as `unknown_slice`. */
  readonly code: string;
  /** The status of the response; 0 if there was none. */
  readonly status: number;
  /** A sentence for people. */
  readonly detail: string;
  /** With the code `refused`: the code of the handler. */
  readonly reason: string | undefined;
  /** The milliseconds after which the server asks to try again. */
  readonly retryAfter: number | undefined;
}

/** Gets a ticket from `url`, the server's `/tickets`: a cookie with which an EventSource or a WebSocket opens. */
export function ticket(url: string | URL, token: TokenSource, options?: { readonly fetch?: Fetch }): Promise<void>;
