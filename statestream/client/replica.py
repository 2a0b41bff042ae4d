"""The other side of the stream: frames in, state out, or a gap.

Invariants: pure; it interprets the protocol's frames and has no connection. After each frame the state is the server's
as of `position`, or `apply` has raised Gap and the caller must start again without a cursor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson
from msgspec import Struct

from statestream.core.draft import patched
from statestream.core.errors import Gap
from statestream.core.patch import Op
from statestream.protocol.sse import Event

MIN_HEARTBEAT_MS: Final = 10
"""A watchdog counts on the heartbeat, so it must not be zero, whatever the server sends."""
MAX_MS: Final = 2**31
NO_REASON: Final = "it gives no reason"
FRAMES: Final = {"state.initial", "state.resumed", "state.update", "state.catchup", "heartbeat", "stream.end"}


class Update(Struct, frozen=True, kw_only=True):
    """One step that a replica has applied.

    `kind` is `initial` (everything was replaced, for `reason`), `patches`, `value` or `removed`. `slice` is None for
    `initial`. `cause` is None for `initial` and for updates of a catch-up. `timestamp` is Unix ms.
    """

    kind: Literal["initial", "patches", "value", "removed"]
    position: str
    slice: str | None = None
    version: int = 0
    patches: tuple[Op, ...] = ()
    reason: str | None = None
    cause: Mapping[str, Any] | None = None
    timestamp: int = 0


class StreamEnd(Struct, frozen=True, kw_only=True):
    """The server ended the stream on purpose. Unless it is final, reconnect after `retry` ms; None: as after a loss."""

    reason: str
    retry: int | None
    final: bool


class Replica:
    """A copy of the selected slices, updated by frames. A value that you hold never changes."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.position: str | None = None
        self.heartbeat_ms: int | None = None
        self.end: StreamEnd | None = None
        self._view: Any = None

    def forget_position(self) -> None:
        """Makes the next connection start without a cursor. The state stays until `state.initial` replaces it."""
        self.position = None

    def apply(self, event: Event) -> list[Update]:
        """Returns the updates of the frame. Raises Gap if it does not continue the state, or cannot be parsed.

        An event with an unknown name belongs to a later version of the protocol and is ignored, except for its id.
        """
        if event.event not in FRAMES:
            if self.position is not None:  # before the first state there is nothing to resume
                self.position = event.last_id or self.position
            return []
        try:
            data = orjson.loads(event.data)
            updates = self._frame(event.event, data, event.last_id)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise Gap(f"a frame of the state stream cannot be parsed ({error!r}); start again") from None
        if event.event != "stream.end":
            self.position = event.last_id
        return updates

    def _frame(self, name: str, data: Any, position: str) -> list[Update]:
        match name:
            case "state.initial":
                return self._initial(data, position)
            case "state.resumed":
                self._resumed(data)
            case "state.update":
                return self._updates([data], position, data["cause"], data["timestamp"])
            case "state.catchup":
                return self._updates(data["updates"], position, None, data["timestamp"])
            case "stream.end":
                self.end = _end(data)
        return []  # a heartbeat only moves the position

    def _initial(self, data: Any, position: str) -> list[Update]:
        heartbeat = _heartbeat(data)
        versions = _versions(data)
        if not isinstance(data["slices"], dict):
            raise Gap("`slices` must be an object; start again")
        self.state, self.versions, self.heartbeat_ms = dict(data["slices"]), dict(versions), heartbeat
        self._view = data.get("view")
        return [Update(kind="initial", position=position, reason=data["reason"], timestamp=data["timestamp"])]

    def _resumed(self, data: Any) -> None:
        heartbeat = _heartbeat(data)
        if _versions(data) != self.versions or data.get("view") != self._view:
            raise Gap("the server resumed at other versions, or other views, than this replica has; start again")
        self.heartbeat_ms = heartbeat

    def _updates(self, items: Any, position: str, cause: Any, timestamp: int) -> list[Update]:
        """Applies all updates of the frame, or none."""
        state, versions = dict(self.state), dict(self.versions)
        newer = [item for item in items if _version(item) > versions.get(item["slice"], 0)]
        updates = [_update(state, versions, item, position, cause, timestamp) for item in newer]
        self.state, self.versions = state, versions
        return updates


def _version(item: Any) -> int:
    """The version of an update about a slice. Raises Gap, KeyError."""
    if type(item["slice"]) is not str or type(item["version"]) is not int:
        raise Gap("an update needs the name of a slice and a whole number as its version; start again")
    version: int = item["version"]
    return version


def _update(
    state: dict[str, Any], versions: dict[str, int], item: Any, position: str, cause: Any, timestamp: int
) -> Update:
    """Applies one update to `state` and `versions`. Raises Gap."""
    name, version = item["slice"], item["version"]
    kind: Literal["patches", "value", "removed"]
    if item.get("removed") is True:
        kind = "removed"
        state.pop(name, None)
    elif "value" in item:
        kind, state[name] = "value", item["value"]
    elif "patches" in item:
        kind, held = "patches", versions.get(name, 0)
        if item["from"] != held or name not in state:
            raise Gap(f"expected a change from version {held} of {name}, got one from {item['from']}; start again")
        state[name] = patched(state[name], item["patches"])
    else:
        raise Gap("an update contains neither patches, nor a value, nor a removal; start again")
    if kind == "removed":
        versions.pop(name, None)
    else:
        versions[name] = version
    return Update(
        kind=kind,
        position=position,
        slice=name,
        version=version,
        patches=tuple(item["patches"]) if kind == "patches" else (),
        cause=cause,
        timestamp=timestamp,
    )


def _end(data: Any) -> StreamEnd:
    """Only the presence of `retry` decides whether it is final, not its value and not the reason."""
    retry = data.get("retry")
    return StreamEnd(
        reason=str(data.get("reason", NO_REASON)),
        retry=min(retry, MAX_MS) if type(retry) is int and retry >= 0 else None,
        final="retry" not in data,
    )


def _heartbeat(data: Any) -> int:
    heartbeat = data["heartbeat"]
    if type(heartbeat) is not int or not 0 <= heartbeat <= MAX_MS:
        raise Gap(f"expected a heartbeat from 1 to {MAX_MS} in whole milliseconds; start again")
    return max(MIN_HEARTBEAT_MS, heartbeat)


def _versions(data: Any) -> dict[str, int]:
    """The member `versions`. Raises Gap, KeyError."""
    versions = data["versions"]
    if not isinstance(versions, dict) or any(type(version) is not int for version in versions.values()):
        raise Gap("`versions` must be an object of whole numbers; start again")
    return versions
