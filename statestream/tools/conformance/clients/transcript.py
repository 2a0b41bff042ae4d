"""A golden transcript: what a server sends on each connection, and what a client must make of it.

A transcript is a text that reads like a wire:

    # what it shows
    > -             the client asks without a cursor; `> 3.c`: with this cursor
    < id: 3.c       the server sends a line; `<` alone is an empty line, the end of a frame
    <~ data: {"t    the same without the end of the line
    ! 503 {"code":  instead of a stream, the server refuses with this status and this problem
    = {"position": …, "state": …, "versions": …, "told": [[kind, slice, version], …]}
                    what the client has after this frame, and what it told its program; a missing member is as before
    = gap           the frame does not continue what the client has: it starts again without a cursor
    = ended REASON  the server has ended the stream; `= over REASON`: for good, also after a refusal
    x               the server ends the response; `X`: the connection is lost; without either it stays open, and silent

Invariants: a transcript is an example of the protocol, not a record of what an implementation did. Every frame is
followed by what it must lead to; a refusal is, if it is for good.
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


class ExpectedState(Struct, frozen=True, kw_only=True):
    """What a frame leads to. `position` None: no cursor; `state` and `versions` are what the client has by then.

    `told` is what its program receives, `[kind, slice, version]` or `["initial", reason]` each.
    """

    kind: Literal["held", "gap", "ended", "over"]
    position: str | None
    state: dict[str, Any]
    versions: dict[str, int]
    told: list[list[Any]] = field(default_factory=list)
    reason: str | None = None


class Exchange(Struct, kw_only=True):
    """One request and its response: frames with what they lead to, bytes of an incomplete frame, and how it ends.

    With another status than 200, the response is a problem. If it is for good, `frames` has an empty one.
    """

    cursor: str
    status: int = 200
    problem: bytes = b""
    frames: list[tuple[bytes, ExpectedState]] = field(default_factory=list)
    rest: bytes = b""
    ending: Literal["open", "x", "X"] = "open"


class Transcript(Struct, frozen=True, kw_only=True):
    """`promise` is a sentence about what it shows."""

    name: str
    promise: str
    exchanges: list[Exchange]

    @classmethod
    def all(cls) -> list[Transcript]:
        files = [
            file
            for file in resources.files(__package__ or "").joinpath("transcripts").iterdir()
            if file.name.endswith(".txt")
        ]
        return [
            cls.parse(file.name.removesuffix(".txt"), file.read_text("utf-8"))
            for file in sorted(files, key=lambda file: file.name)
        ]

    @classmethod
    def parse(cls, name: str, text: str) -> Transcript:
        """Raises ValueError with the number of the line."""
        parser = _Parser()
        for number, line in enumerate(text.splitlines(), 1):
            try:
                parser.line(line)
            except (ValueError, LookupError) as error:
                raise ValueError(f"{name}:{number}: {line!r}: {error}") from error
        return cls(name=name, promise=parser.promise, exchanges=parser.exchanges)

    @property
    def cursors(self) -> list[str]:
        """The cursors that the client must ask with, in order."""
        return [exchange.cursor for exchange in self.exchanges]

    @property
    def expected(self) -> list[ExpectedState]:
        return [expected for exchange in self.exchanges for _, expected in exchange.frames]

    @property
    def telling(self) -> list[ExpectedState]:
        """What leads to something that the client tells its program, in order."""
        return [expected for expected in self.expected if expected.told]

    @property
    def last(self) -> ExpectedState:
        return self.expected[-1]


class _Parser:
    def __init__(self) -> None:
        self.promise = ""
        self.exchanges: list[Exchange] = []
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
                _require(text, "a request without a cursor is `> -`")
                self.exchanges.append(Exchange(cursor=text))
            case "<" | "<~":
                _require(not self.exchanges[-1].rest.endswith(b"\n\n"), "the frame before this line leads to nothing")
                self.exchanges[-1].rest += text.encode() + (b"" if sign == "<~" else b"\n")
            case "!":
                status, _, problem = text.partition(" ")
                _require(orjson.loads(problem)["code"], "a refusal needs a code")
                self.exchanges[-1].status, self.exchanges[-1].problem = int(status), problem.encode()
            case "=":
                self._leads_to(text)
            case "x" | "X":
                self.exchanges[-1].ending = "x" if sign == "x" else "X"
            case _:
                raise ValueError("expected one of # > < <~ ! = x X")

    def _leads_to(self, text: str) -> None:
        exchange = self.exchanges[-1]
        refused = exchange.status != 200
        _require(refused or exchange.rest.endswith(b"\n\n"), "expected a whole frame before what it leads to")
        kind, _, reason = text.partition(" ")
        held: dict[str, Any] = {}
        if text.startswith("{"):
            kind, reason, held = "held", "", orjson.loads(text)
            _require(set(held) <= MEMBERS, f"expected {', '.join(sorted(MEMBERS))}")
            self._position = held.get("position", self._position)
            self._state, self._versions = held.get("state", self._state), held.get("versions", self._versions)
        _require(kind in KINDS, f"expected one of {', '.join(KINDS)}")
        if kind == "gap":
            self._position = None
        expected = ExpectedState(
            kind=kind,  # type: ignore[arg-type]  # verified above
            position=self._position,
            state=self._state,
            versions=self._versions,
            told=held.get("told", []),
            reason=reason or None,
        )
        exchange.frames.append((exchange.rest, expected))
        exchange.rest = b""


def _require(condition: object, sentence: str) -> None:
    if not condition:
        raise ValueError(sentence)
