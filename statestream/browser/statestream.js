/* statestream.js: the client for browsers and Node: a live copy of a server's state, and the way to change it.
 *
 * Invariants: this is all that is public; the other modules of this folder may change with every version.
 */
export { connect } from "./client.js";
export { StatestreamError } from "./errors.js";
export { ticket } from "./ticket.js";
