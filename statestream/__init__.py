"""statestream: named slices, actions, and every change to every reader, exactly once and in order.

The public names. `Chat` lives in `statestream.chat`, journals in `statestream.journal`.
"""

from statestream.change import REMOVED, Action, Change, Position, Result
from statestream.client import BlockingStream, Stream, connect, connect_sync
from statestream.errors import (
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
from statestream.names import escape_key
from statestream.replaying import replay
from statestream.replica import Update
from statestream.server.app import create_app
from statestream.slices import Slice
from statestream.store import Store

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
