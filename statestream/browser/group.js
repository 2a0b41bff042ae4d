/* group.js: which clients share a stream: those of one origin with the same server, for the same identity.
 *
 * Invariants: two identities never get the same name. A name reveals neither a token nor an identity. Clients that
 * cannot know whom they are, or that could not tell the others, share nothing.
 */
import { StatestreamError } from "./errors.js";
import { selectionOf } from "./selection.js";

const PROTOCOL = 1; // of the messages among the clients: pages with another version of them are no group

/** The group of a client, or null if it shares nothing. Throws. */
export function groupOf(root, { slices, token, identity, fetch }) {
  if (identity !== undefined && (typeof identity !== "string" || !identity)) {
    throw new StatestreamError("expected `identity` to be a text that is not empty", { code: "malformed" });
  }
  const capable = globalThis.location && globalThis.navigator?.locks && globalThis.BroadcastChannel && crypto.subtle;
  if (!capable || fetch !== undefined) return null;
  if (identity !== undefined) return new Group(root, slices, ["identity", identity]);
  return typeof token === "function" ? null : new Group(root, slices, token === undefined ? [] : ["token", token]);
}

class Group {
  #about;

  constructor(root, slices, who) {
    this.selection = selectionOf(slices);
    this.isDeclared = who.length > 0; // otherwise, the server may recognize people by what this page cannot see
    this.isOfPerson = who[0] === "identity";
    this.#about = [PROTOCOL, root.href, who];
  }

  /** The name of the channel and lock of its stream, with which the names of all its other locks begin. */
  name() {
    return this.#named(this.selection === null); // null has no union with items
  }

  /** The name of what the person has dispatched. */
  outboxName() {
    return this.#named("outbox");
  }

  async #named(part) {
    const text = new TextEncoder().encode(JSON.stringify([...this.#about, part]));
    const digest = await crypto.subtle.digest("SHA-256", text);
    return `statestream ${Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  }
}
