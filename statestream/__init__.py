"""statestream: named slices, actions, and every change to every reader, exactly once and in order.

The public names. `Chat` lives in `statestream.chat`, journals in `statestream.journal`.
"""

from statestream.client import BlockingStream, Stream, connect, connect_sync
from statestream.client.replaying import replay
from statestream.client.replica import Update
from statestream.core.change import REMOVED, Action, Change, Position, Result
from statestream.core.errors import (
    ActionIdReused,
    HandlerFailed,
    InvalidPayload,
    Malformed,
    Refused,
    StatestreamError,
    StreamRefused,
    TimedOut,
    Unavailable,
    VersionConflict,
)
from statestream.core.names import escape_key
from statestream.core.slices import Slice
from statestream.server.app import create_app
from statestream.store.store import Store

__version__ = "0.1.0"

__all__ = [
    "REMOVED",
    "Action",
    "ActionIdReused",
    "BlockingStream",
    "Change",
    "HandlerFailed",
    "InvalidPayload",
    "Malformed",
    "Position",
    "Refused",
    "Result",
    "Slice",
    "StatestreamError",
    "Store",
    "Stream",
    "StreamRefused",
    "TimedOut",
    "Unavailable",
    "Update",
    "VersionConflict",
    "connect",
    "connect_sync",
    "create_app",
    "escape_key",
    "replay",
]
