"""What a reader holds, and every rule that a frame can break.

Invariants: pure. Stricter than a client has to be: a change that comes twice, or that a client would have to ignore, is
a breach of the server's.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import orjson
from msgspec import Struct, field

from statestream.core.draft import patched
from statestream.core.errors import Gap
from statestream.core.values import canonical
from statestream.tools.conformance.check import Breach, expect

MEMBERS: Final = {
    "state.initial": {"type", "reason", "position", "slices", "versions", "heartbeat", "timestamp"},
    "state.resumed": {"type", "position", "versions", "heartbeat", "timestamp"},
    "state.update": {"type", "slice", "from", "version", "cause", "timestamp"},
    "state.catchup": {"type", "position", "updates", "timestamp"},
    "heartbeat": {"type", "position", "timestamp"},
    "stream.end": {"type", "reason"},
}
CONTENTS: Final = ("patches", "value", "removed")


class Frame(Struct, frozen=True, kw_only=True):
    """One event as it was written. `id` None: it has none."""

    event: str
    id: str | None
    retry: int | None
    data: Any

    @classmethod
    def parse(cls, block: bytes) -> Frame | None:
        """None for a comment. Raises Breach where it is not written as the protocol says."""
        expect(b"\r" not in block, f"expected lines that end in LF, got a CR in {_shown(block)}")
        fields: dict[str, list[str]] = {}
        for line in block.decode(errors="replace").split("\n"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
        if set(fields) == {""}:
            return None
        expect(len(fields.get("data", ())) == 1, f"expected one data line in a frame, got {_shown(block)}")
        try:
            data = orjson.loads(fields["data"][0])
        except orjson.JSONDecodeError:
            raise Breach(f"expected JSON in a frame's data, got {_shown(block)}") from None
        expect(isinstance(data, dict), f"expected a JSON object in a frame's data, got {_shown(block)}")
        retry = fields.get("retry", [""])[0]
        return cls(
            event=fields.get("event", ["message"])[-1],
            id=fields.get("id", [None])[-1],
            retry=int(retry) if retry.isascii() and retry.isdigit() else None,
            data=data,
        )


def seq_of(position: str | None) -> int:
    """Raises Breach where it is no position."""
    seq, dot, tag = (position or "").partition(".")
    good = dot and seq.isascii() and seq.isdigit() and tag.isascii() and tag.isalnum()
    expect(good, f"expected a position like 1042.k3v9x2m, got {position!r}")
    return int(seq)


class View(Struct, kw_only=True):
    """The state as of `position`, kept by frames. `reasons` of every `state.initial`."""

    state: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    position: str | None = None
    reasons: list[str] = field(default_factory=list)

    def copy(self) -> View:
        return copy.deepcopy(self)

    def same(self, other: View) -> bool:
        return self.versions == other.versions and canonical(self.state) == canonical(other.state)

    def apply(self, frame: Frame) -> None:
        """Raises Breach."""
        data = frame.data
        expect(frame.event in MEMBERS, f"expected an event of the protocol, got {frame.event!r}")
        expect(data.get("type") == frame.event, f"expected the event's name as `type` of its data, in {frame.event}")
        missing = MEMBERS[frame.event] - set(data)
        expect(not missing, f"expected {', '.join(sorted(missing))} in {frame.event}, got none")
        if frame.event == "stream.end":
            expect(frame.id is None, "expected no id in stream.end, got one")
            return
        self._moved(frame)
        match frame.event:
            case "state.initial":
                self._initial(data)
            case "state.resumed":
                expect(
                    data["versions"] == self.versions,
                    f"expected to resume at the cursor's versions {self.versions}, got {data['versions']}",
                )
            case "state.update":
                self._change(data, seq_of(frame.id))
            case "state.catchup":
                for item in data["updates"]:
                    self._change(item, seq_of(frame.id))

    def _moved(self, frame: Frame) -> None:
        said = frame.data.get("position", frame.id)
        expect(frame.id == said, f"expected the position as the id of {frame.event}, got {frame.id} with {said}")
        if self.position is not None and frame.event != "state.initial":
            back = seq_of(frame.id) < seq_of(self.position)
            expect(not back, f"expected ids that rise, got {frame.id} after {self.position}")
        seq_of(frame.id)
        self.position = frame.id

    def _initial(self, data: Any) -> None:
        self.state, self.versions = dict(data["slices"]), dict(data["versions"])
        self.reasons.append(data["reason"])
        expect(set(self.state) == set(self.versions), "expected a version for every slice of state.initial")
        late = [name for name, version in self.versions.items() if not 0 < version <= seq_of(self.position)]
        expect(not late, f"expected versions from 1 up to the position in state.initial, got others for {late}")

    def _change(self, item: Any, seq: int) -> None:
        name, since, version = item.get("slice"), item.get("from"), item.get("version")
        held = self.versions.get(name, 0)
        expect(version > held, f"expected each change of {name} once, got version {version} while {held} is held")
        expect(since == held, f"expected the change of {name} behind version {held}, got one from {since}: a hole")
        expect(version <= seq, f"expected an id behind the changes up to it, got version {version} with id {seq}")
        brought = [content for content in CONTENTS if content in item]
        expect(len(brought) == 1, f"expected one of patches, value, removed in a change of {name}, got {brought}")
        if brought == ["removed"]:
            self.state.pop(name, None)
            self.versions.pop(name, None)
            return
        self.state[name] = item["value"] if brought == ["value"] else self._patched(name, item["patches"])
        self.versions[name] = version

    def _patched(self, name: str, operations: Any) -> Any:
        for one in operations:
            expect(one.get("op") in ("add", "remove", "replace"), f"expected add, remove, replace, got {one.get('op')}")
            end = str(one.get("path", "")).endswith("/-")
            expect(not end, f"expected array positions as indices in a patch of {name}, got one that ends in -")
        try:
            return patched(self.state.get(name), operations)
        except Gap:
            raise Breach(f"expected a patch that fits version {self.versions.get(name, 0)} of {name}") from None


def _shown(block: bytes) -> str:
    text = block.decode(errors="replace")
    return repr(text if len(text) <= 120 else text[:120] + "…")
