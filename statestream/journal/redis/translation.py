"""What the errors of redis-py, and those that a server answers with, mean for those who use the journal.

Invariants: the sentences are fixed. They contain no host, no command, no argument and no text of the server, since
clients may see them, and a server may quote arguments.
"""

from __future__ import annotations

from typing import Final

from statestream.core.errors import JournalUnusable, StatestreamError, Unavailable
from statestream.journal.redis.driver import exceptions

_LOGIN: Final = "the Redis server refuses the journal's user name or password"
_KINDS: Final[list[tuple[type[Exception], str]]] = [
    (exceptions.AuthenticationError, _LOGIN),
    (exceptions.AuthorizationError, _LOGIN),
    (exceptions.NoPermissionError, "the journal's Redis user may not use a command or a key; grant what it needs"),
    (exceptions.BusyLoadingError, "the Redis server is starting and loads its data; try again"),
    (
        exceptions.ReadOnlyError,
        "the Redis server is a replica, which accepts no writes; point the journal's URL at the primary",
    ),
    (exceptions.OutOfMemoryError, "the Redis server is out of memory; raise its maxmemory, or keep less history"),
    (exceptions.ClusterDownError, "the Redis Cluster is not available now; try again"),
    (exceptions.TryAgainError, "the Redis Cluster is moving the journal's keys; try again"),
    (exceptions.AskError, "the Redis Cluster is moving the journal's keys; try again"),
    (exceptions.TimeoutError, "the Redis server did not answer in time; try again"),
    (TimeoutError, "the Redis server did not answer in time; try again"),
    (exceptions.ConnectionError, "the Redis server cannot be reached; try again"),
    (OSError, "the Redis server cannot be reached; try again"),
    (exceptions.InvalidResponse, "the server does not answer as a Redis server does"),
]
_CODES: Final = {
    "MISCONF": "the Redis server cannot save its data to disk, and refuses writes until it can",
    "NOREPLICAS": "the Redis server has fewer replicas than it needs to accept writes",
    "BUSY": "the Redis server is busy with a script; try again",
    "UNBLOCKED": "the Redis server has become a replica; try again",
}
REDIS_ERRORS: Final = (exceptions.RedisError, OSError)
"""What redis-py raises. TimeoutError of the standard library is an OSError."""


def translated(error: Exception) -> StatestreamError:
    """The exception that replaces one of REDIS_ERRORS."""
    code = str(error).partition(" ")[0]
    if isinstance(error, exceptions.ResponseError):
        if code == "WRONGTYPE" or "WRONGTYPE" in str(error):
            return JournalUnusable("a key of the journal holds something else; restore a backup, or use a namespace")
        if "unauthenticated" in str(error):  # the answer to a command with many arguments
            return Unavailable(_LOGIN)
        if code in _CODES:
            return Unavailable(_CODES[code])
    for kind, sentence in _KINDS:
        if isinstance(error, kind):
            return Unavailable(sentence)
    return Unavailable("the Redis server refused a command; its version may be too old")


def damaged(what: str) -> JournalUnusable:
    return JournalUnusable(f"{what} is damaged or missing; restore a backup")
