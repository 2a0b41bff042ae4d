"""Golden transcripts: what a server sends on each connection, and what a client must make of it.

A transcript is a text that reads like a wire:

    # what it shows
    > -             the client asks, without a cursor; `> 3.c`: with this one
    < id: 3.c       the server sends a line; `<` alone is an empty one: the end of a frame
    <~ data: {"t    the same without the line's end
    = {"position": …, "state": …, "versions": …, "told": [[kind, slice, version], …]}
                    what the client holds after this frame, and what it told its program; what is left out is as it was
    = gap           the frame does not continue what is held: the client starts again, without a cursor
    = ended REASON  the server has ended the stream; `= over REASON`: for good
    x               the server ends the body; `X`: the connection is lost

Law: the files are the protocol's page in examples, not a record of what an implementation did. Every frame is
followed by what it must lead to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

NO_CURSOR = "-"
Told = list[Any]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a frame leads to. `position` None: no cursor; `state`, `versions` are those that are held by now."""

    kind: Literal["held", "gap", "ended", "over"]
    position: str | None
    state: dict[str, Any]
    versions: dict[str, int]
    told: list[Told] = field(default_factory=list)
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class Connection:
    """One request and its answer: frames with their outcomes, then bytes of no whole frame, then how it ends."""

    cursor: str
    frames: list[tuple[bytes, Outcome]] = field(default_factory=list)
    rest: bytes = b""
    ending: Literal["open", "x", "X"] = "open"


@dataclass(slots=True, kw_only=True)
class Transcript:
    name: str
    connections: list[Connection]

    @classmethod
    def all(cls) -> list[Transcript]:
        return [cls.read(path) for path in sorted(Path(__file__).parent.glob("*.txt"))]

    @classmethod
    def read(cls, path: Path) -> Transcript:
        reader = _Reader()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                reader.line(line)
            except (ValueError, AssertionError) as error:
                raise AssertionError(f"{path.name}:{number}: {line!r}: {error}") from error
        return cls(name=path.stem, connections=reader.connections)

    @property
    def asks(self) -> list[str]:
        return [connection.cursor for connection in self.connections]

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for connection in self.connections for _, outcome in connection.frames]

    @property
    def telling(self) -> list[Outcome]:
        """The outcomes that a program hears of, in order."""
        return [outcome for outcome in self.outcomes if outcome.told]

    @property
    def last(self) -> Outcome:
        return self.outcomes[-1]


class _Reader:
    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self._position: str | None = None
        self._state: dict[str, Any] = {}
        self._versions: dict[str, int] = {}

    def line(self, line: str) -> None:
        sign, _, text = line.partition(" ")
        match sign:
            case "" | "#":
                return
            case ">":
                assert text, "a request without a cursor is `> -`"
                self.connections.append(Connection(cursor=text))
            case "<" | "<~":
                assert not self.connections[-1].rest.endswith(b"\n\n"), "the frame before has no outcome"
                self.connections[-1].rest += text.encode() + (b"" if sign == "<~" else b"\n")
            case "=":
                self._outcome(text)
            case "x" | "X":
                self.connections[-1].ending = sign  # type: ignore[assignment]  # one of the two
            case _:
                raise AssertionError("expected one of # > < <~ = x X")

    def _outcome(self, text: str) -> None:
        connection = self.connections[-1]
        assert connection.rest.endswith(b"\n\n"), "expected an outcome behind a whole frame"
        kind, _, reason = text.partition(" ")
        held: dict[str, Any] = {}
        if text.startswith("{"):
            kind, reason, held = "held", "", json.loads(text)
            assert set(held) <= {"position", "state", "versions", "told"}
            self._position = held.get("position", self._position)
            self._state, self._versions = held.get("state", self._state), held.get("versions", self._versions)
        assert kind in ("held", "gap", "ended", "over")
        if kind == "gap":
            self._position = None
        outcome = Outcome(
            kind=kind,  # type: ignore[arg-type]  # one of them, see above
            position=self._position,
            state=self._state,
            versions=self._versions,
            told=held.get("told", []),
            reason=reason or None,
        )
        connection.frames.append((connection.rest, outcome))
        connection.rest = b""
