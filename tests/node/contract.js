/* contract.js: runs connections of the web client for the suite of tests/support/contract_service.py. Runs in a page.
 *
 * Invariants: it knows no expectation. What comes is told to the service in its order, one message after the other.
 */
import { Connection } from "/js/stream.js";
import { HeartbeatMonitor } from "/js/health.js";
import { Token } from "/js/token.js";

const connections = new Map();
let sending = Promise.resolve();

function tell(number, message) {
  const post = () => fetch(`/told/${number}`, { method: "POST", body: JSON.stringify(message) });
  sending = sending.then(post);
}

/** Uses the id of every event as its cursor, and holds no state. */
class AnyEvents {
  heartbeat = null;
  end = null;

  constructor(position) {
    this.position = position;
  }

  apply({ lastId }) {
    this.position = lastId || null;
    return [];
  }
}

globalThis.start = (number, { streamUrl, lastEventId = null }) => {
  const connection = new Connection({
    url: new URL(streamUrl),
    token: new Token(undefined, (...given) => fetch(...given)),
    replica: new AnyEvents(lastEventId),
    monitor: new HeartbeatMonitor(() => {}),
    onEvent: ({ type, data, lastId }) => tell(number, { kind: "event", event: { type, data, id: lastId } }),
    onPhase: () => {
      const { phase, error } = connection;
      if (phase !== "connecting" && error !== null) tell(number, { kind: "error", comment: error.detail });
    },
  });
  connections.set(number, connection);
  void connection.run();
};

globalThis.stop = (number) => connections.get(number).close();
globalThis.ready = true;
