"""A client who knows who it is, with a memory that all clients share: the same bytes lead to the same.

Invariants: a frame is applied by the plain client, which shares no code with the product, once for all readers who held
the same and have received the same bytes.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from tests.support.plain_client import Frame, PlainClient
from tests.support.rights_model import Shown, Who

NOTHING = Shown({}, {})
Memory = dict[tuple[int, bytes], tuple[Frame, Shown]]


class Reader(PlainClient):
    """`held` is what it was shown last. `moment` counts when its credentials were issued; None: they do not tell."""

    def __init__(self, who: Who, memory: Memory, *, dated: bool) -> None:
        super().__init__(0, who.query)
        self.who, self.memory, self.dated = who, memory, dated
        self.node = 0
        self.held = NOTHING
        self.moment: int | None = None
        self.expires: float | None = None
        self.ended = ""
        self.asked_at = 0.0
        self.recent: deque[Frame] = deque(maxlen=5)

    def log_in(self, moment: int, lifetime: float | None) -> None:
        """Gets new credentials."""
        now = time.time()
        self.moment = moment if self.dated else None
        self.expires = None if lifetime is None else now + lifetime
        issued = f"{int(now * 1000) / 1000}" if self.dated else ""
        self.token = f"{self.who.subject}:{self.who.roles}:{issued}:{self.expires or ''}"

    @property
    def open(self) -> bool:
        return self.socket is not None

    def next(self) -> Frame | None:
        """The next frame, applied; None at the end of the stream."""
        return next(self.frames(), None)

    def _frame(self, block: bytes) -> Frame:
        known = self.memory.get((id(self.held), block))
        if known is None:
            self.state, self.versions = dict(self.held.state), dict(self.held.versions)
            try:
                frame = super()._frame(block)
            except (KeyError, AssertionError) as error:
                raise AssertionError((repr(error), block, described(self))) from error
            self.applied.clear()
            self.received = Shown(self.state, self.versions)
            self.block: bytes | None = block
            return frame
        frame, self.received = known
        self.block = None
        if frame.id is not None:
            self.last_id = frame.id
        return frame

    def keep(self, frame: Frame, shown: Shown) -> None:
        """What it has received is what it should be shown."""
        self.recent.append(frame)
        if self.block is not None:
            self.memory[id(self.held), self.block] = frame, shown
        self.held = shown

    def start_over(self) -> None:
        """It has no cursor, and holds nothing."""
        self.last_id, self.held = "", NOTHING


def seq_of(position: str) -> int:
    return int(position.partition(".")[0])


def described(reader: Reader) -> dict[str, Any]:
    """For the message of a failure."""
    known = {"who": reader.who, "node": reader.node, "cursor": reader.last_id, "dated": reader.dated}
    return known | {"recent": list(reader.recent)}
