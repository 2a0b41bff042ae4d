/* react_tools.js: the hook that runs tools in this window. It is not part of `react.js`: only pages with tools load it.
 *
 *   useTools("42", { locate: async ({ precision }) => position(precision) });
 *
 * Invariants: a component that uses it is not drawn again because of it. What runs ends with the component.
 */
"use client"; // frameworks that render on a server run this module in the browser as well

import { keyOf } from "./conversation.js";
import { React, useSource } from "./provider.js";
import { ToolRunner } from "./tool_runner.js";

/** Runs the calls that a chat offers of these tools, as `runTools` does, while the component is mounted. */
export function useTools(chat, tools) {
  const source = useSource(), newest = React.useRef(tools);
  const name = chat === undefined ? undefined : `chat/${keyOf(chat)}`;
  React.useInsertionEffect(() => void (newest.current = tools));
  React.useEffect(() => {
    if (name === undefined) return undefined;
    const feed = source.feedOf(name), runner = new ToolRunner(chat, () => newest.current, source.request);
    const look = () => runner.look(feed.shown.state[name]);
    const leave = feed.subscribe(look);
    const first = setTimeout(look); // Strict Mode takes the component away once, in between
    return () => {
      clearTimeout(first);
      leave();
      runner.stop();
    };
  }, [source, name]);
}
