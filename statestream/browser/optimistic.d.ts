/* optimistic.d.ts: the types of optimistic.js.
 *
 * Invariants: it declares all that the module exports, and nothing else. A test compiles a strict program against it.
 */
import type { Actions, Optimism, Slices } from "./statestream.js";

/** The value of the slice of an action, by the action's type. */
type ValueOf<State extends Slices, Type> = Type extends `${infer Name}/${string}`
  ? Name extends keyof State
    ? State[Name]
    : `${Name}/${string}` extends keyof State
      ? State[`${Name}/${string}` & keyof State] | undefined
      : any
  : any;

/** Functions that return what an action makes of the value of its slice. They leave that value as it is. */
export type Reducers<State extends Slices = Record<string, any>, Payloads extends Actions = Record<string, any>> = {
  readonly [Type in keyof Payloads]?: (value: ValueOf<State, Type>, payload: Payloads[Type]) => ValueOf<State, Type>;
};

/** For `connect`: shows what these actions will change before the server has answered. */
export function optimistic<State extends Slices = Record<string, any>, Payloads extends Actions = Record<string, any>>(
  reducers: Reducers<State, Payloads>,
): Optimism;
