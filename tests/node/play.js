/* play.js: what the web client does with scripted streams. Runs in a page, which imports it, and in Node.
 *
 * Invariants: it knows no expectation. It says what came, and ends when it is told what to wait for.
 */
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

/** The events that EventSource makes of each stream: [type, data, lastEventId]. `once`: it is not to come back.
 * All at the same time: they end at once, and coming back takes three seconds where the stream does not say. */
export const hear = (jobs) => Promise.all(jobs.map(({ url, types, once }) => new Promise((resolve) => {
  const events = [], source = new EventSource(url);
  const heard = (event) => event instanceof MessageEvent && events.push([event.type, event.data, event.lastEventId]);
  for (const type of types) source.addEventListener(type, heard);
  source.onerror = (event) => {
    if (event instanceof MessageEvent) return; // one that the server has named so
    if (once) source.close();
    if (source.readyState === EventSource.CLOSED) resolve(events);
  };
})));

/** The events that the client's decoder makes of each stream, and the cursor and the delay after it. */
export const decode = async (jobs, { Decoder }) => pooled(jobs, async ({ url }) => {
  const decoder = new Decoder(), events = [], reader = (await fetch(url)).body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) events.push(...decoder.feed(next.value));
  return { events: events.map(({ type, data, lastId }) => [type, data, lastId]), last: decoder.lastId, retry: decoder.retry };
});

const kind = ({ kind, reason, slice, version }) => (kind === "initial" ? [kind, reason] : [kind, slice, version]);

/** What the client tells and holds of each transcript, once it stands at `position` and has asked `asks` times. */
export const play = (jobs, { Connection, HeartbeatMonitor, Replica, Token }) => pooled(jobs, async (job) => {
  const { url, tellings, position, asks, over, token } = job;
  const seen = [], replica = new Replica(), server = new URL(url, globalThis.location?.href);
  const hold = () => ({ state: replica.state, versions: replica.versions, position: replica.position });
  const connection = new Connection({
    url: new URL(`${server.pathname}/stream/state`, server),
    token: new Token(token ?? undefined, (...given) => fetch(...given)),
    replica,
    monitor: new HeartbeatMonitor(() => {}),
    onEvent: (_, updates) => updates.length && seen.push({ told: updates.map(kind), ...hold() }),
    onPhase: () => {},
  });
  const given_up = performance.now() + PATIENCE_MS;
  const there = async () => {
    const held = JSON.stringify({ position: replica.position });
    const { asked } = await (await fetch(server, { method: "POST", body: held })).json();
    if (seen.length < tellings || replica.position !== position) return false;
    return asked.length >= asks && (!over || (connection.phase === "ended" && connection.error.code === over));
  };
  const running = connection.run();
  while (!(await there()) && performance.now() < given_up) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  connection.close();
  await running;
  return { seen, ...hold() };
});
