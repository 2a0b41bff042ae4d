/* play.mjs: play.js in Node behind lines of JSON. `root` is the URL of the server that plays.
 *
 * Invariants: no expectation here either; what runs is the package as it is.
 */
import { createInterface } from "node:readline";
import { HeartbeatMonitor } from "../../statestream/browser/health.js";
import { Replica } from "../../statestream/browser/replica.js";
import { Decoder } from "../../statestream/browser/sse.js";
import { Connection } from "../../statestream/browser/stream.js";
import { Token } from "../../statestream/browser/token.js";
import * as script from "./play.js";

const parts = { Connection, Decoder, HeartbeatMonitor, Replica, Token };

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, jobs, root } = JSON.parse(line);
  let answer;
  try {
    const resolved = jobs.map((job) => ({ ...job, url: new URL(job.url, root).href }));
    answer = { result: await script[name](resolved, parts) };
  } catch (error) {
    answer = { error: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
