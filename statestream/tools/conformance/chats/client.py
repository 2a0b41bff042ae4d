"""A client of one protocol, in one chat: what it holds, and how it comes back.

Invariants: a client knows of the reply what its protocol says. It may ask `ReplyUnderTest` when to come back, because
nothing in some protocols tells a client that a reply continues.
"""

from __future__ import annotations

from typing import Any, Protocol

from statestream.tools.conformance.chats.comparison import Texts
from statestream.tools.conformance.chats.connections import Connection


class Client(Protocol):
    """One client."""

    @property
    def follows(self) -> bool:
        """Whether its connection stays open while the reply waits."""

    async def connect(self) -> Connection | None:
        """Begins, or comes back. None: there is nothing to follow, and what there is was loaded. Raises Violation."""

    def take(self, frame: bytes) -> None:
        """Applies a frame. Raises Violation."""

    @property
    def ended(self) -> bool:
        """Whether it has seen the end, although the connection stays open."""

    def end(self) -> None:
        """The connection has ended regularly. Raises Violation if something is missing."""

    async def lost(self, why: str) -> None:
        """The server broke the connection off. Raises Violation unless that is how the protocol says something."""

    def cut(self, rest: bytes) -> None:
        """The connection was cut. `rest` are the bytes of an incomplete frame."""

    async def load(self) -> None:
        """Loads what a new page shows. Raises Violation."""

    def held(self) -> Any:
        """What it holds, as JSON."""

    def texts(self) -> Texts:
        """The texts that it holds."""
