"""The data of each frame of the state stream, as types: what the document for programs says of them.

Invariants: docs/protocol.md describes every member; these types say the same. `frames` builds what they describe, and
tests validate everything that a server sends by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from statestream.core.values import MAX_INT

Reason = Literal["start", "expired", "forked", "invalid", "lagged"]
EndReason = Literal["shutdown", "busy", "unavailable", "too_large", "expired", "revoked", "aged"]
PositionText = Annotated[str, Field(pattern=r"^(0\.0|[1-9][0-9]{0,15}\.[A-Za-z0-9]{1,32})$")]
FullName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}(/[A-Za-z0-9._~:@%-]{1,128})?$")]
Version = Annotated[int, Field(ge=1, le=MAX_INT)]
Before = Annotated[int, Field(ge=0, le=MAX_INT, description="The version before; 0 if the slice did not exist.")]
Milliseconds = Annotated[int, Field(ge=0, description="Unix time in ms.")]
Silence = Annotated[int, Field(ge=1, le=2**31, description="The longest silence in ms.")]
Retry = Annotated[int, Field(ge=0, description="After how many ms to reconnect.")]
ViewTag = Annotated[str, Field(description="Stands for the views through which slices are seen.")]


class Initial(TypedDict):
    """The whole selected state."""

    type: Literal["state.initial"]
    reason: Reason
    position: PositionText
    slices: dict[FullName, Any]
    versions: dict[FullName, Version]
    heartbeat: Silence
    retry: NotRequired[Retry]
    view: NotRequired[ViewTag]
    timestamp: Milliseconds


class Resumed(TypedDict):
    """The stream resumes at the cursor, where the slices had these versions."""

    type: Literal["state.resumed"]
    position: PositionText
    versions: dict[FullName, Version]
    heartbeat: Silence
    retry: NotRequired[Retry]
    view: NotRequired[ViewTag]
    timestamp: Milliseconds


class Setting(TypedDict):
    """An operation of RFC 6902 that brings a value."""

    op: Literal["add", "replace"]
    path: str
    value: Any


class Removing(TypedDict):
    """An operation of RFC 6902 that removes a value."""

    op: Literal["remove"]
    path: str


class Cause(TypedDict):
    """The action that made a change. `payload` is present with `cause=full`, if the client may read it."""

    type: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,63}/[A-Za-z0-9_]+$")]
    id: Annotated[str, Field(pattern="^[A-Za-z0-9._:-]{1,128}$")]
    actor: NotRequired[str]
    payload: NotRequired[dict[str, Any]]


class _Step(TypedDict):
    """From one version of a slice to another."""

    slice: FullName
    version: Version


_From = TypedDict("_From", {"from": Before})


class Patched(_Step, _From):
    """Operations lead from one version of a slice to another."""

    patches: list[Setting | Removing]


class Replaced(_Step, _From):
    """A slice has a new value."""

    value: Any


class Removed(_Step, _From):
    """A slice was removed."""

    removed: Literal[True]


class _Update(TypedDict):
    type: Literal["state.update"]
    cause: Cause
    timestamp: Milliseconds


class PatchUpdate(_Update, Patched):
    """One change: operations."""


class ValueUpdate(_Update, Replaced):
    """One change: a new value."""


class RemovalUpdate(_Update, Removed):
    """One change: the slice was removed."""


class _Line(TypedDict):
    position: PositionText


class PatchLine(_Line, PatchUpdate):
    """One change of the history: operations."""


class ValueLine(_Line, ValueUpdate):
    """One change of the history: a new value."""


class RemovalLine(_Line, RemovalUpdate):
    """One change of the history: the slice was removed."""


class Catchup(TypedDict):
    """Several changes, one item for each slice."""

    type: Literal["state.catchup"]
    position: PositionText
    updates: list[Patched | Replaced | Removed]
    timestamp: Milliseconds


class Heartbeat(TypedDict):
    """The stream is alive, and the client is complete up to the position."""

    type: Literal["heartbeat"]
    position: PositionText
    timestamp: Milliseconds


class End(TypedDict):
    """The server ends the stream. Without `retry`, the client must not reconnect."""

    type: Literal["stream.end"]
    reason: EndReason
    retry: NotRequired[Retry]


FRAMES: Final[Mapping[str, Any]] = {
    "state.initial": Initial,
    "state.resumed": Resumed,
    "state.update": PatchUpdate | ValueUpdate | RemovalUpdate,
    "state.catchup": Catchup,
    "heartbeat": Heartbeat,
    "stream.end": End,
}
"""By the names of the events."""
LINE: Final = PatchLine | ValueLine | RemovalLine
"""A line of the history."""
