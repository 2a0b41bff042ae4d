import { createHooks } from "statestream/react";
import type { Payloads, State } from "./board";

export const { useSlice, useDispatch, useHealth, useChat, useMessage, usePresence } = createHooks<State, Payloads>();
