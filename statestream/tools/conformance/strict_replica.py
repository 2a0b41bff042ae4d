"""What a subscriber has, and every rule that a frame can break.

Invariants: pure. Stricter than a client must be: a change that comes twice, which a client would have to ignore, is a
violation by the server.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import orjson
from msgspec import Struct, field

from statestream.core.draft import patched
from statestream.core.errors import Gap
from statestream.core.values import canonical
from statestream.tools.conformance.violation import Violation, expect

MEMBERS: Final = {
    "state.initial": {"type", "reason", "position", "slices", "versions", "heartbeat", "timestamp"},
    "state.resumed": {"type", "position", "versions", "heartbeat", "timestamp"},
    "state.update": {"type", "slice", "from", "version", "cause", "timestamp"},
    "state.catchup": {"type", "position", "updates", "timestamp"},
    "heartbeat": {"type", "position", "timestamp"},
    "stream.end": {"type", "reason"},
}
CONTENTS: Final = ("patches", "value", "removed")
SHOWN_CHARACTERS: Final = 120


class ParsedFrame(Struct, frozen=True, kw_only=True):
    """A frame as it was written. `id` is None if it has no id, which a decoder would fill in."""

    event: str
    id: str | None
    retry: int | None
    data: Any

    @classmethod
    def parse(cls, block: bytes) -> ParsedFrame | None:
        """None for a comment. Raises Violation if it is not written as the protocol prescribes."""
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
            raise Violation(f"expected JSON in the data of a frame, got {_shown(block)}") from None
        expect(isinstance(data, dict), f"expected a JSON object in the data of a frame, got {_shown(block)}")
        retry = fields.get("retry", [""])[0]
        return cls(
            event=fields.get("event", ["message"])[-1],
            id=fields.get("id", [None])[-1],
            retry=int(retry) if retry.isascii() and retry.isdigit() else None,
            data=data,
        )


def seq_of(position: str | None) -> int:
    """The seq of a position. Raises Violation if it is not one."""
    seq, dot, tag = (position or "").partition(".")
    good = dot and seq.isascii() and seq.isdigit() and tag.isascii() and tag.isalnum()
    expect(good, f"expected a position such as 1042.k3v9x2m, got {position!r}")
    return int(seq)


class StrictReplica(Struct, kw_only=True):
    """The state at `position`, updated by frames. `reasons` has the reason of every `state.initial`."""

    state: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    position: str | None = None
    reasons: list[str] = field(default_factory=list)

    def copy(self) -> StrictReplica:
        return copy.deepcopy(self)

    def same(self, other: StrictReplica) -> bool:
        """Whether both have the same state, as JSON, and the same versions."""
        return self.versions == other.versions and canonical(self.state) == canonical(other.state)

    def apply(self, frame: ParsedFrame) -> None:
        """Raises Violation."""
        data = frame.data
        expect(frame.event in MEMBERS, f"expected an event of the protocol, got {frame.event!r}")
        expect(data.get("type") == frame.event, f"expected `type` in the data to be the event, {frame.event}")
        missing = MEMBERS[frame.event] - set(data)
        expect(not missing, f"expected {', '.join(sorted(missing))} in {frame.event}, got none")
        if frame.event == "stream.end":
            expect(frame.id is None, "expected no id in stream.end, got one")
            return
        self._move(frame)
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

    def _move(self, frame: ParsedFrame) -> None:
        position = frame.data.get("position", frame.id)
        expect(frame.id == position, f"expected the position as the id of {frame.event}, got {frame.id}, {position}")
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
        expect(not late, f"expected versions from 1 to the position in state.initial, got others for {late}")

    def _change(self, item: Any, seq: int) -> None:
        name, since, version = item.get("slice"), item.get("from"), item.get("version")
        held = self.versions.get(name, 0)
        expect(version > held, f"expected each change of {name} once, got version {version} after {held}")
        expect(since == held, f"expected the change of {name} after version {held}, got one from {since}: a gap")
        expect(version <= seq, f"expected an id at or after its changes, got version {version} with id {seq}")
        contents = [content for content in CONTENTS if content in item]
        expect(len(contents) == 1, f"expected one of patches, value, removed in a change of {name}, got {contents}")
        if contents == ["removed"]:
            self.state.pop(name, None)
            self.versions.pop(name, None)
            return
        self.state[name] = item["value"] if contents == ["value"] else self._patched(name, item["patches"])
        self.versions[name] = version

    def _patched(self, name: str, operations: Any) -> Any:
        for one in operations:
            expect(one.get("op") in ("add", "remove", "replace"), f"expected add, remove, replace, got {one.get('op')}")
            end = str(one.get("path", "")).endswith("/-")
            expect(not end, f"expected indices as array positions in a patch of {name}, got a path that ends in -")
        try:
            return patched(self.state.get(name), operations)
        except Gap:
            raise Violation(f"expected a patch that fits version {self.versions.get(name, 0)} of {name}") from None


def _shown(block: bytes) -> str:
    text = block.decode(errors="replace")
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")
