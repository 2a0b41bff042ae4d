/* contract.js: runs connections of statestream.js for the suite of tests/support/contract_service.py. Runs in a browser.
 *
 * Invariants: it knows no expectation. What comes is told to the service in its order, one message after the other.
 */
import { Connection } from "/statestream.js";

const connections = new Map();
let sending = Promise.resolve();

function tell(number, message) {
  const post = () => fetch(`/told/${number}`, { method: "POST", body: JSON.stringify(message) });
  sending = sending.then(post);
}

globalThis.start = (number, url, names) => {
  const receive = ({ type, data, lastEventId }) => {
    connection.received();
    tell(number, { kind: "event", event: { type, data, id: lastEventId } });
  };
  const connection = new Connection(() => new URL(url), names, receive, (text) => tell(number, { kind: "error", comment: text }));
  connections.set(number, connection);
  connection.open();
};

globalThis.stop = (number) => connections.get(number).close();
globalThis.ready = true;
