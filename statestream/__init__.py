"""statestream: named slices, actions, and every change to every subscriber, exactly once and in order.

The public names of the server and its client. `statestream.chat` has chats, `statestream.journal` journals,
`statestream.client` recordings, `statestream.testing` what your own journals, servers and clients can be tested with.
"""

from statestream.client import BlockingStream, Health, Stream, Update, connect, connect_sync
from statestream.core.change import REMOVED, Action, Change, Position, Removed, Result
from statestream.core.errors import (
    ActionIdReused,
    Expired,
    Forked,
    HandlerFailed,
    InvalidPayload,
    Malformed,
    RateLimited,
    Refused,
    StatestreamError,
    StreamRefused,
    TimedOut,
    Unauthenticated,
    Unavailable,
    UnknownAction,
    UnknownSlice,
    VersionConflict,
)
from statestream.core.principal import Identity
from statestream.core.slices import Slice
from statestream.server.app import create_app
from statestream.server.limits import Limits
from statestream.store.store import Store

__version__ = "0.1.0"

__all__ = [
    "REMOVED",
    "Action",
    "ActionIdReused",
    "BlockingStream",
    "Change",
    "Expired",
    "Forked",
    "HandlerFailed",
    "Health",
    "Identity",
    "InvalidPayload",
    "Limits",
    "Malformed",
    "Position",
    "RateLimited",
    "Refused",
    "Removed",
    "Result",
    "Slice",
    "StatestreamError",
    "Store",
    "Stream",
    "StreamRefused",
    "TimedOut",
    "Unauthenticated",
    "Unavailable",
    "UnknownAction",
    "UnknownSlice",
    "Update",
    "VersionConflict",
    "connect",
    "connect_sync",
    "create_app",
]
