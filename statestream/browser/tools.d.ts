/* tools.d.ts: the types of tools.js.
 *
 * Invariants: it declares all that the module exports, and nothing else. A test compiles a strict program against it.
 */
import type { Client } from "./statestream.js";

/** Tools by their names. A tool gets the arguments of a call. It returns the result, which is JSON, or a promise of it.
 *
 * If it throws an error, the model gets the message of that. `signal` is aborted when nobody needs the result any more.
 */
export type Tools = {
  readonly [name: string]: (args: any, run: { readonly signal: AbortSignal }) => unknown;
};

/** Runs the calls of these tools that a chat offers to windows. A call runs in one window only.
 *
 * Returns a function that ends this. Other windows can then run what this one has not finished.
 */
export function runTools(client: Client<any, any>, chat: string, tools: Tools): () => void;
