/* errors.js: what goes wrong between a page and its server.
 *
 *   StatestreamError   the server refused for good: `status`, `code` and `detail` are those of its answer
 *   ├── Lost           a connection broke or was refused for now: it is tried again
 *   └── Gap            a frame does not fit what a replica holds: the stream starts again without a cursor
 *
 * Invariants: `code` is for programs, `detail` for people. `status` is 0 if there was no response. No message contains
 * a token or a payload.
 */

export class StatestreamError extends Error {
  name = "StatestreamError";

  /** `reason` is the code of a handler that refused, `retryAfter` the milliseconds that the server asks to wait. */
  constructor(detail, { code, status = 0, reason, retryAfter, cause } = {}) {
    super(detail, cause === undefined ? undefined : { cause });
    Object.assign(this, { code, status, detail, reason, retryAfter });
  }
}

export class Lost extends StatestreamError {
  constructor(detail, more = {}) {
    super(detail, { code: "unavailable", ...more });
  }
}

export class Gap extends StatestreamError {
  constructor(detail, more = {}) {
    super(`${detail}; starting again`, { code: "gap", ...more });
  }
}
