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

Invariants: the files are the protocol's page in examples, not a record of what an implementation did. Every frame is
followed by what it must lead to.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, Final, Literal

import orjson
from msgspec import Struct, field

NO_CURSOR: Final = "-"
SECTION: Final = "GET /stream/state"
MEMBERS: Final = {"position", "state", "versions", "told"}
KINDS: Final = ("held", "gap", "ended", "over")


class Expected(Struct, frozen=True, kw_only=True):
    """What a frame leads to. `position` None: no cursor; `state`, `versions` are those that are held by now.

    `told`: what the program hears, `[kind, slice, version]` or `["initial", reason]` each.
    """

    kind: Literal["held", "gap", "ended", "over"]
    position: str | None
    state: dict[str, Any]
    versions: dict[str, int]
    told: list[list[Any]] = field(default_factory=list)
    reason: str | None = None


class Connection(Struct, kw_only=True):
    """One request and its answer: frames with what they lead to, then bytes of no whole frame, then how it ends."""

    cursor: str
    frames: list[tuple[bytes, Expected]] = field(default_factory=list)
    rest: bytes = b""
    ending: Literal["open", "x", "X"] = "open"


class Transcript(Struct, frozen=True, kw_only=True):
    """`promise` is what it shows, in a sentence."""

    name: str
    promise: str
    connections: list[Connection]

    @classmethod
    def all(cls) -> list[Transcript]:
        files = [file for file in resources.files(__name__).iterdir() if file.name.endswith(".txt")]
        return [
            cls.read(file.name.removesuffix(".txt"), file.read_text("utf-8"))
            for file in sorted(files, key=lambda file: file.name)
        ]

    @classmethod
    def read(cls, name: str, text: str) -> Transcript:
        """Raises ValueError, which says in which line."""
        reader = _Reader()
        for number, line in enumerate(text.splitlines(), 1):
            try:
                reader.line(line)
            except (ValueError, LookupError) as error:
                raise ValueError(f"{name}:{number}: {line!r}: {error}") from error
        return cls(name=name, promise=reader.promise, connections=reader.connections)

    @property
    def asks(self) -> list[str]:
        return [connection.cursor for connection in self.connections]

    @property
    def expected(self) -> list[Expected]:
        return [expected for connection in self.connections for _, expected in connection.frames]

    @property
    def telling(self) -> list[Expected]:
        """What leads to something that a program hears of, in order."""
        return [expected for expected in self.expected if expected.told]

    @property
    def last(self) -> Expected:
        return self.expected[-1]


class _Reader:
    def __init__(self) -> None:
        self.promise = ""
        self.connections: list[Connection] = []
        self._position: str | None = None
        self._state: dict[str, Any] = {}
        self._versions: dict[str, int] = {}

    def line(self, line: str) -> None:
        sign, _, text = line.partition(" ")
        match sign:
            case "":
                return
            case "#":
                self.promise = self.promise or text
            case ">":
                _hold(text, "a request without a cursor is `> -`")
                self.connections.append(Connection(cursor=text))
            case "<" | "<~":
                _hold(not self.connections[-1].rest.endswith(b"\n\n"), "the frame before leads to nothing")
                self.connections[-1].rest += text.encode() + (b"" if sign == "<~" else b"\n")
            case "=":
                self._leads_to(text)
            case "x" | "X":
                self.connections[-1].ending = "x" if sign == "x" else "X"
            case _:
                raise ValueError("expected one of # > < <~ = x X")

    def _leads_to(self, text: str) -> None:
        connection = self.connections[-1]
        _hold(connection.rest.endswith(b"\n\n"), "expected a whole frame before what it leads to")
        kind, _, reason = text.partition(" ")
        held: dict[str, Any] = {}
        if text.startswith("{"):
            kind, reason, held = "held", "", orjson.loads(text)
            _hold(set(held) <= MEMBERS, f"expected {', '.join(sorted(MEMBERS))}")
            self._position = held.get("position", self._position)
            self._state, self._versions = held.get("state", self._state), held.get("versions", self._versions)
        _hold(kind in KINDS, f"expected one of {', '.join(KINDS)}")
        if kind == "gap":
            self._position = None
        expected = Expected(
            kind=kind,  # type: ignore[arg-type]  # one of them, see above
            position=self._position,
            state=self._state,
            versions=self._versions,
            told=held.get("told", []),
            reason=reason or None,
        )
        connection.frames.append((connection.rest, expected))
        connection.rest = b""


def _hold(condition: object, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)
