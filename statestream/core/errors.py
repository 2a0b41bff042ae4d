"""The exceptions of statestream, in one tree.

    StatestreamError
    ├── Malformed             400 malformed               a request, a name, a key or a cursor cannot be parsed
    │   └── NotJSON           400 malformed               a value exceeds the JSON limits; it knows the place
    ├── Forbidden             403 forbidden               an internal action, a page of another site
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
    ├── InvalidPayload        422 invalid_payload         the payload does not fit the handler's signature
    ├── HandlerFailed         500 handler_failed          a bug in a handler; its changes are discarded
    ├── DraftClosed           500 handler_failed          a draft was used after its action
    ├── JournalUnusable       500 journal_unusable        another program's file, a damaged or read-only one
    ├── Unavailable           503 unavailable             retryable: the journal is down, or the outcome unknown
    ├── Gap                   a frame does not fit what a replica holds: it must start again
    ├── TimedOut              client: something did not happen in time
    ├── RecordingFailed       client: a recording cannot be written or read
    └── StreamRefused         client: the server refused for good

Four more are defined where they are raised and caught, and never leave these modules: Conflict and Duplicate in
`journal.contract`, TooFarBehind in `broadcast.backlog`, ModelFailed in `chat.models`.

Invariants: each class has a stable `code`, an HTTP `status` and `retryable`. Each message says what is wrong and what
to do, and never contains a payload. Errors of drivers (sqlite3, aiohttp, openai) are translated where they arise and
never leave a public function. Codes are part of the protocol: renaming one breaks clients.
"""

from __future__ import annotations

from typing import ClassVar


class StatestreamError(Exception):
    """The root: catches everything that statestream raises on purpose."""

    code: ClassVar[str] = "error"
    status: int = 500
    retryable: ClassVar[bool] = False

    @property
    def why(self) -> str:
        """What a program goes by: the code, and of a Refused the handler's own."""
        return self.code


class Malformed(StatestreamError, ValueError):
    """A request, a name, a key or a cursor that cannot be read; the message says where."""

    code, status = "malformed", 400


class NotJSON(Malformed):
    """A value that is not JSON, or breaks a limit. `place` is an RFC 6901 pointer to it."""

    def __init__(self, problem: str, place: str = "") -> None:
        self.problem, self.place = problem, place
        super().__init__(f"at {place or 'the root'}: {problem}")

    def under(self, segment: str) -> NotJSON:
        """The same problem, seen from one level further up."""
        return NotJSON(self.problem, f"/{segment}{self.place}")


class Forbidden(StatestreamError):
    """An action that only the server's own code may dispatch; a WebSocket that another site's page opens."""

    code, status = "forbidden", 403


class UnknownAction(StatestreamError):
    """No slice of the store has such an action."""

    code, status = "unknown_action", 404


class UnknownSlice(StatestreamError):
    """The store has no such slice."""

    code, status = "unknown_slice", 404


class NotFound(StatestreamError):
    """What the request is about, a chat for example, does not exist."""

    code, status = "not_found", 404


class ActionIdReused(StatestreamError):
    """The id stands for another request already: take a fresh one."""

    code, status = "action_id_reused", 409


class VersionConflict(StatestreamError):
    """`expect` does not hold: somebody was there first."""

    code, status = "version_conflict", 409


class Refused(StatestreamError):
    """Raised by a handler to say no to the caller: `raise Refused("full", "The room is full.")`."""

    code, status = "refused", 409

    def __init__(self, reason: str, sentence: str) -> None:
        self.reason, self.sentence = reason, sentence
        super().__init__(sentence)

    @property
    def why(self) -> str:
        return self.reason


class Expired(StatestreamError):
    """The position is older than what the journal keeps."""

    code, status = "position_expired", 410


class Forked(StatestreamError):
    """The position belongs to another history."""

    code, status = "position_forked", 410


class TooLarge(StatestreamError):
    """A body, or a snapshot, that is over its limit."""

    code, status = "too_large", 413


class UnsupportedMediaType(StatestreamError):
    """The body's `Content-Type` is not `application/json`."""

    code, status = "unsupported_media_type", 415


class InvalidPayload(StatestreamError):
    """The payload does not fit the handler's signature; the message says where."""

    code, status = "invalid_payload", 422


class HandlerFailed(StatestreamError):
    """A handler raised: a bug. Its changes are gone, the details are in the server's log."""

    code, status = "handler_failed", 500


class DraftClosed(StatestreamError, RuntimeError):
    """A draft was used after its action."""

    code, status = "handler_failed", 500


class JournalUnusable(StatestreamError):
    """The journal cannot be opened: another program's file, a damaged or a read-only one, or one of a newer version."""

    code, status = "journal_unusable", 500


class Unavailable(StatestreamError):
    """The journal is down, or the outcome unknown: try again with the same id."""

    code, status, retryable = "unavailable", 503, True


class Gap(StatestreamError):
    """A frame does not continue what the replica holds. Start again without a cursor."""

    retryable = True


class TimedOut(StatestreamError, TimeoutError):
    """What a client waited for has not come in time."""

    code = "timed_out"


class RecordingFailed(StatestreamError):
    """A recording cannot be read, or cannot be written."""

    code = "recording_failed"


class StreamRefused(StatestreamError):
    """The server refused for good (a 4xx, or `stream.end` without `retry`): coming back would not help.

    `status` is what the server answered with: 200 where it said so in the stream, or was no such server.
    """

    def __init__(self, message: str, *, reason: str, status: int = 200) -> None:
        self.reason, self.status = reason, status
        super().__init__(message)
