/* play.js: what a page does with scripted streams. Runs in a browser, imported by the page that the tests open.
 *
 * Invariants: it knows no expectation. It says what came, and ends when it is told what to wait for.
 */
import { FetchSource, follow } from "/statestream.js";

const AT_ONCE = 4; // a browser opens six connections to a host
const LOOK_MS = 10;
const PATIENCE_MS = 20000;

async function pooled(jobs, work) {
  const results = [], waiting = [...jobs.entries()];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) results[next[0]] = await work(next[1]);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return results;
}

/** The events that EventSource makes of each stream, with a token FetchSource: [type, data, lastEventId]. `once`: it is not to come back.
 * All at the same time: they end at once, and coming back takes three seconds where the stream does not say. */
export const hear = (jobs) => Promise.all(jobs.map(({ url, types, once, token }) => new Promise((resolve) => {
  const events = [], source = token ? new FetchSource(new URL(url, location.href), token) : new EventSource(url);
  const heard = (event) => event instanceof MessageEvent && events.push([event.type, event.data, event.lastEventId]);
  for (const type of types) source.addEventListener(type, heard);
  source.onerror = (event) => {
    if (event instanceof MessageEvent) return; // one that the server has named so
    if (once) source.close();
    if (source.readyState === EventSource.CLOSED) resolve(events);
  };
})));

const kind = ({ slice, version, removed, ...update }) => {
  if (slice === undefined) return ["initial", update.reason];
  return [removed ? "removed" : "value" in update ? "value" : "patches", slice, version];
};

/** What statestream.js tells and holds of each transcript, once it stands at `position` and has asked `asks` times. */
export const play = (jobs) => pooled(jobs, async ({ url, tellings, position, asks, over, token }) => {
  const seen = [], statuses = [];
  const note = (state, updates) => seen.push({ told: updates.map(kind), state, versions: stream.versions, position: stream.position });
  const stream = follow(`${url}/stream/state`, note, (text) => statuses.push(text), { token });
  const given_up = performance.now() + PATIENCE_MS;
  const there = async () => {
    const held = JSON.stringify({ position: stream.position });
    const { asked } = await (await fetch(url, { method: "POST", body: held })).json();
    if (seen.length < tellings || stream.position !== position) return false;
    return asked.length >= asks && (!over || statuses.at(-1) === `ended: ${over}`);
  };
  while (!(await there()) && performance.now() < given_up) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  if (!over) stream.close();
  return { seen, state: stream.state, versions: stream.versions, position: stream.position };
});
