"""The other side of the stream: frames in, state out, or a gap.

Law: pure; knows the protocol's frames and nothing of connections. After any frame the state is the
server's as of `position`, or `apply` has raised Gap, and the caller starts again without a cursor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from statestream.errors import Gap
from statestream.patch import Op, replay
from statestream.sse import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Something that a replica has just applied.

    `kind` is `initial` (everything was replaced; `reason` says why), `patches`, `value` or `removed`.
    `slice` is None for `initial`. `cause` is None for `initial` and for what a catch-up brought.
    """

    kind: Literal["initial", "patches", "value", "removed"]
    position: str
    slice: str | None = None
    version: int = 0
    patches: tuple[Op, ...] = ()
    reason: str | None = None
    cause: Mapping[str, Any] | None = None
    timestamp: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The server has ended the stream on purpose. `retry` in ms; None: do not come back."""

    reason: str
    retry: int | None


class Replica:
    """A copy of the selected slices, kept by frames. Values are changed in place: copy what must stay."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.position: str | None = None
        self.heartbeat_ms: int | None = None
        self.end: End | None = None

    def forget_position(self) -> None:
        """The next connection starts without a cursor; what is held stays until `state.initial` replaces it."""
        self.position = None

    def apply(self, event: Event) -> list[Update]:
        """What the frame changed. Raises Gap if it does not continue what is held, or cannot be read."""
        try:
            data = orjson.loads(event.data)
            updates = self._frame(data, event.last_id)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise Gap(f"expected a frame of the state stream, got one that cannot be read ({error!r})") from None
        if data["type"] != "stream.end":
            self.position = event.last_id
        return updates

    def _frame(self, data: Any, position: str) -> list[Update]:
        match data["type"]:
            case "state.initial":
                return self._initial(data, position)
            case "state.resumed":
                self._resumed(data)
            case "state.update":
                return self._updates([data], position, data["cause"], data["timestamp"])
            case "state.catchup":
                return self._updates(data["updates"], position, None, data["timestamp"])
            case "stream.end":
                self.end = End(reason=data["reason"], retry=data.get("retry"))
        return []  # a heartbeat moves the position; a frame of a later version is nothing to us

    def _initial(self, data: Any, position: str) -> list[Update]:
        self.state, self.versions = dict(data["slices"]), dict(data["versions"])
        self.heartbeat_ms = data["heartbeat"]
        return [Update(kind="initial", position=position, reason=data["reason"], timestamp=data["timestamp"])]

    def _resumed(self, data: Any) -> None:
        self.heartbeat_ms = data["heartbeat"]
        if data["versions"] != self.versions:
            raise Gap("expected to resume where this replica stands, the server stands elsewhere; start again")

    def _updates(self, items: Any, position: str, cause: Any, timestamp: int) -> list[Update]:
        newer = [item for item in items if item["version"] > self.versions.get(item["slice"], 0)]
        for item in newer:
            if "patches" in item and item["from"] != self.versions.get(item["slice"], 0):
                raise Gap(f"expected a change from version {self.versions.get(item['slice'], 0)} of {item['slice']}")
        return [self._update(item, position, cause, timestamp) for item in newer]

    def _update(self, item: Any, position: str, cause: Any, timestamp: int) -> Update:
        name, version = item["slice"], item["version"]
        kind: Literal["patches", "value", "removed"]
        patches: tuple[Op, ...] = ()
        if "patches" in item:
            kind, patches = "patches", tuple(item["patches"])
            self.state[name] = replay(self.state[name], item["patches"])
        elif "value" in item:
            kind = "value"
            self.state[name] = item["value"]
        else:
            kind = "removed"
            self.state.pop(name, None)
        if kind == "removed":
            self.versions.pop(name, None)
        else:
            self.versions[name] = version
        return Update(
            kind=kind, position=position, slice=name, version=version, patches=patches, cause=cause, timestamp=timestamp
        )
