/* tools.js: runs tools in this window, when a chat offers calls of them. It is not part of `statestream.js`.
 *
 *   import { runTools } from "/js/tools.js";
 *   const stop = runTools(client, "42", { locate: async ({ precision }) => position(precision) });
 *
 * Invariants: the client that was given stays as it is. If it does not follow the chat, another one does.
 */
import { keyOf } from "./conversation.js";
import { selectionOf, selects } from "./selection.js";
import { ToolRunner } from "./tool_runner.js";

/** Runs the calls that the chat offers of these tools: functions, by their names. Returns a function that ends this.
 *
 * A tool gets the arguments of the call and `{ signal }`, which is aborted when nobody needs the result any more. It
 * returns the result, or a promise of it. If it throws an error, the model gets the message of that.
 */
export function runTools(client, chat, tools) {
  const name = `chat/${keyOf(chat)}`;
  const source = selects(selectionOf(client.slices), name) ? client : client.follow([name]);
  const runner = new ToolRunner(chat, () => tools, client.request);
  const leave = source.subscribe(() => runner.look(source.state[name]));
  runner.look(source.state[name]);
  return () => {
    runner.stop();
    leave();
    if (source !== client) source.close();
  };
}
