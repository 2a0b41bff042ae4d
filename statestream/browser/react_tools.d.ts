/* react_tools.d.ts: the types of react_tools.js.
 *
 * Invariants: it declares all that the module exports, and nothing else. A test compiles a strict program against it.
 */
import type { Tools } from "./tools.js";

export type { Tools };

/** Runs the calls of these tools that a chat offers to windows, while the component is mounted. See `runTools`. */
export function useTools(chat: string | undefined, tools: Tools): void;
