import { createHooks } from "statestream/react";
import type { Actions, State } from "./state";

/** The hooks with the types of app.py: `npm run check` writes state.d.ts. */
export const { useSlice, useHealth, useChat, useMessage, usePresence } = createHooks<State, Actions>();
