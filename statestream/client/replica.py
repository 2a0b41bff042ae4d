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
    """The server ended the stream on purpose. Reconnect after `retry` ms; never, if it is None."""

    reason: str
    retry: int | None


class Replica:
    """A copy of the selected slices, updated by frames. A value that you hold never changes."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.position: str | None = None
        self.heartbeat_ms: int | None = None
        self.end: StreamEnd | None = None

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
                retry = data.get("retry")
                self.end = StreamEnd(reason=data["reason"], retry=None if retry is None else _milliseconds(retry))
        return []  # a heartbeat only moves the position

    def _initial(self, data: Any, position: str) -> list[Update]:
        heartbeat = _heartbeat(data)
        if not isinstance(data["slices"], dict) or not isinstance(data["versions"], dict):
            raise Gap("`slices` and `versions` must be objects; start again")
        self.state, self.versions, self.heartbeat_ms = dict(data["slices"]), dict(data["versions"]), heartbeat
        return [Update(kind="initial", position=position, reason=data["reason"], timestamp=data["timestamp"])]

    def _resumed(self, data: Any) -> None:
        self.heartbeat_ms = _heartbeat(data)
        if data["versions"] != self.versions:
            raise Gap("the server resumed at other versions than this replica has; start again")

    def _updates(self, items: Any, position: str, cause: Any, timestamp: int) -> list[Update]:
        """Applies all updates of the frame, or none."""
        state, versions = dict(self.state), dict(self.versions)
        newer = [item for item in items if item["version"] > versions.get(item["slice"], 0)]
        updates = [_update(state, versions, item, position, cause, timestamp) for item in newer]
        self.state, self.versions = state, versions
        return updates


def _update(
    state: dict[str, Any], versions: dict[str, int], item: Any, position: str, cause: Any, timestamp: int
) -> Update:
    """Applies one update to `state` and `versions`. Raises Gap."""
    name, version = item["slice"], item["version"]
    kind: Literal["patches", "value", "removed"]
    if "patches" in item:
        kind, held = "patches", versions.get(name, 0)
        if item["from"] != held or name not in state:
            raise Gap(f"expected a change from version {held} of {name}, got one from {item['from']}; start again")
        state[name] = patched(state[name], item["patches"])
    elif "value" in item:
        kind, state[name] = "value", item["value"]
    elif item.get("removed") is True:
        kind = "removed"
        state.pop(name, None)
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


def _heartbeat(data: Any) -> int:
    return max(MIN_HEARTBEAT_MS, _milliseconds(data["heartbeat"]))


def _milliseconds(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_MS:
        raise Gap(f"expected a time from 0 to {MAX_MS} in whole milliseconds; start again")
    return value
