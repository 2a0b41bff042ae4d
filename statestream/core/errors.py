"""The exceptions of statestream, in one tree.

    StatestreamError
    ├── Malformed             400 malformed               a request, a name, a key or a cursor cannot be parsed
    │   └── NotJSON           400 malformed               a value is not JSON within the limits; it knows the place
    ├── Unauthenticated       401 unauthenticated         credentials are missing, wrong or no longer valid
    ├── Forbidden             403 forbidden               an action without the right to it
    │   └── ForbiddenOrigin   403 forbidden_origin        a page of another origin
    ├── UnknownAction         404 unknown_action
    ├── UnknownSlice          404 unknown_slice
    ├── NotFound              404 not_found               a chat that does not exist
    ├── ActionIdReused        409 action_id_reused        the id was used for another request
    ├── VersionConflict       409 version_conflict        `expect` does not hold
    ├── Refused               409 refused                 a handler refused, with a code of its own
    ├── Expired               410 position_expired        older than the journal keeps
    ├── Forked                410 position_forked         a position of another history
    ├── TooLarge              413 too_large
    ├── UnsupportedMediaType  415 unsupported_media_type
    ├── RangeNotSatisfiable   416 range_not_satisfiable   bytes behind the end of a file
    ├── Misdirected           421 misdirected_request     addressed to a name that is not the server's
    ├── InvalidPayload        422 invalid_payload         the payload does not fit the handler, or what it makes of it
    ├── RateLimited           429 rate_limited            an identity has done too much for now
    │   └── TooManyStreams    429 too_many_streams        an identity or an address has too many streams open
    ├── HandlerFailed         500 handler_failed          a bug in a handler; its changes are discarded
    ├── DraftClosed           500 handler_failed          a draft was used after its action
    ├── JournalUnusable       500 journal_unusable        another program's file, a damaged or read-only one
    ├── Unavailable           503 unavailable             retryable: the journal is down, or the outcome unknown
    ├── NotInMemory           an instance must be awaited: `store.read`, not `store.get`
    ├── InvalidValue          a value does not fit the type of its slice
    ├── Gap                   a frame does not fit what a replica holds: it must start again
    ├── TimedOut              client: something did not happen in time
    ├── RecordingFailed       client: a recording cannot be written or read
    └── StreamRefused         client: the server refused for good

Four more are defined elsewhere, because only one package uses them, and callers of the public functions never see them:
Conflict and Duplicate in `journal.contract`, TooFarBehind in `broadcast.backlog`, ModelFailed in `chat.models`.

Invariants: each class has a stable `code`, an HTTP `status` and `retryable`. Each message says what is wrong and what
to do, and never contains a payload. Errors of libraries (sqlite3, aiohttp, openai) are translated where they arise and
never leave a public function. Codes are part of the protocol: renaming one breaks clients.
"""

from __future__ import annotations

from typing import ClassVar, Self


class StatestreamError(Exception):
    """The root of all exceptions that statestream raises on purpose."""

    code: ClassVar[str] = "error"
    status: int = 500
    retryable: ClassVar[bool] = False
    retry_after: float = 1.0
    """The seconds after which to try again, if it is retryable."""
    exceeded: str | None = None
    """The limit that was exceeded, as the metric of the limits names it."""

    def over(self, limit: str) -> Self:
        """The same error, counted as a refusal by that limit."""
        self.exceeded = limit
        return self

    @property
    def why(self) -> str:
        """The code for programs: `code`, or the handler's own code if a handler refused."""
        return self.code


class Malformed(StatestreamError, ValueError):
    """A request, a name, a key or a cursor cannot be parsed."""

    code, status = "malformed", 400


class NotJSON(Malformed):
    """A value is not JSON, or exceeds a limit. `place` is an RFC 6901 pointer to it.

    `limit` is true if it exceeds a limit: such a value may come from a client, a value of a wrong type cannot.
    """

    def __init__(self, problem: str, place: str = "", *, limit: bool = False) -> None:
        self.problem, self.place, self.limit = problem, place, limit
        super().__init__(f"at {place or 'the root'}: {problem}")

    def at(self, place: str) -> NotJSON:
        """The same problem at another place."""
        return NotJSON(self.problem, place, limit=self.limit)

    def under(self, segment: str) -> NotJSON:
        """The same problem, as seen from the container around it."""
        return self.at(f"/{segment}{self.place}")


class Unauthenticated(StatestreamError):
    """The request has no valid credentials, and needs them.

    `kind` is what the audit log calls the failure: a word.
    """

    code, status = "unauthenticated", 401

    def __init__(self, sentence: str, *, kind: str = "credentials") -> None:
        self.kind = kind
        super().__init__(sentence)


class Forbidden(StatestreamError):
    """The caller may not dispatch this action."""

    code, status = "forbidden", 403


class ForbiddenOrigin(Forbidden):
    """A page of another origin sent a request that may change something, or tried to open a WebSocket."""

    code = "forbidden_origin"


class UnknownAction(StatestreamError):
    """No slice of the store declares such an action."""

    code, status = "unknown_action", 404


class UnknownSlice(StatestreamError):
    """The store has no such slice."""

    code, status = "unknown_slice", 404


class NotFound(StatestreamError):
    """The subject of a request, for example a chat, does not exist."""

    code, status = "not_found", 404


class ActionIdReused(StatestreamError):
    """The id belongs to another request already. Use a new one."""

    code, status = "action_id_reused", 409


class VersionConflict(StatestreamError):
    """A slice is not at the version that `expect` requires. Reload and retry."""

    code, status = "version_conflict", 409


class Refused(StatestreamError):
    """A handler refuses the request.

    `raise Refused("full", "The room is full.")`: a code for programs and a sentence for people.
    """

    code, status = "refused", 409

    def __init__(self, reason: str, sentence: str) -> None:
        self.reason, self.sentence = reason, sentence
        super().__init__(sentence)

    @property
    def why(self) -> str:
        return self.reason


class Expired(StatestreamError):
    """The position is older than the journal's earliest one."""

    code, status = "position_expired", 410


class Forked(StatestreamError):
    """The position belongs to another history."""

    code, status = "position_forked", 410


class TooLarge(StatestreamError):
    """A body, a snapshot or an event exceeds its limit."""

    code, status = "too_large", 413


class UnsupportedMediaType(StatestreamError):
    """The body is not JSON in UTF-8 by its `Content-Type`, or has an unknown `Content-Encoding`."""

    code, status = "unsupported_media_type", 415


class RangeNotSatisfiable(StatestreamError):
    """The `Range` of the request begins behind the end of the file."""

    code, status = "range_not_satisfiable", 416


class Misdirected(StatestreamError):
    """The request is addressed to a name that is not the server's."""

    code, status = "misdirected_request", 421


class InvalidPayload(StatestreamError):
    """The payload does not fit the handler, or leads to a state that is not valid JSON. The message has the place."""

    code, status = "invalid_payload", 422


class RateLimited(StatestreamError):
    """An identity has done too much for now: try again after `retry_after` seconds."""

    code, status, retryable = "rate_limited", 429, True

    def __init__(self, sentence: str, *, limit: str | None, retry_after: float) -> None:
        self.exceeded, self.retry_after = limit, retry_after
        super().__init__(sentence)


class TooManyStreams(RateLimited):
    """An identity or an address has as many streams open as it may."""

    code = "too_many_streams"


class HandlerFailed(StatestreamError):
    """A handler has a bug. Its changes are discarded; the server's log has the details."""

    code, status = "handler_failed", 500


class DraftClosed(StatestreamError, RuntimeError):
    """A draft was used after its action."""

    code, status = "handler_failed", 500


class JournalUnusable(StatestreamError):
    """The journal cannot be opened, or a part of it that was read is damaged.

    It is another program's file, damaged, read-only, or of a newer version. `statestream journal repair` repairs a
    damaged one.
    """

    code, status = "journal_unusable", 500


class Unavailable(StatestreamError):
    """The journal is down, or the outcome is unknown. Try again with the same id."""

    code, status, retryable = "unavailable", 503, True


class NotInMemory(StatestreamError):
    """An instance has left the memory because nobody used it. Use `await store.read(…)` instead of `store.get`."""


class InvalidValue(StatestreamError):
    """A value does not fit the type that its slice is declared with. The message has the place.

    A handler that leaves such a value fails with `HandlerFailed` instead.
    """

    def __init__(self, problem: str, what: str = "the value") -> None:
        self.problem, self.what = problem, what
        super().__init__(f"{what} does not fit its type: {problem}")


class Gap(StatestreamError):
    """A frame does not continue what a replica holds. It must start again without a cursor."""

    retryable = True


class TimedOut(StatestreamError, TimeoutError):
    """What a client waited for did not happen in time."""

    code = "timed_out"


class RecordingFailed(StatestreamError):
    """A recording cannot be read or written."""

    code = "recording_failed"


class StreamRefused(StatestreamError):
    """The server refused for good, with a 4xx or with a `stream.end` without `retry`. Reconnecting would not help.

    `status` is the status of the response: 200 if the refusal came in the stream, or if the server speaks another
    protocol.
    """

    def __init__(self, message: str, *, reason: str, status: int = 200) -> None:
        self.reason, self.status = reason, status
        super().__init__(message)
