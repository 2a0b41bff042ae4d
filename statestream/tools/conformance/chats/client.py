"""A client of one protocol, in one chat: what it holds, and how it comes back.

Invariants: a client knows of the reply what its protocol says. It may ask `ReplyUnderTest` when to come back, because
nothing in some protocols tells a client that a reply continues.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from statestream.tools.conformance.chats.comparison import Texts
from statestream.tools.conformance.chats.connections import Connection, Lost
from statestream.tools.conformance.violation import Violation


class Reader(Protocol):
    """What a client makes of the frames that it receives."""

    def held(self) -> Any:
        """What the client holds, as JSON."""

    def texts(self) -> Texts:
        """The texts that the client holds."""


class Client(Protocol):
    """One client."""

    @property
    def reader(self) -> Reader:
        """What it holds."""

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


async def load_stream(client: Client) -> None:
    """Loads what a new client is shown whose only source is a stream: from its beginning to the end of the reply.

    Raises Violation.
    """
    connection = await client.connect()
    assert connection is not None  # such clients always have something to follow
    try:
        while not client.ended:
            frame = await connection.next()
            if frame is None:
                client.end()
                return
            client.take(frame)
    except Lost as lost:
        await client.lost(str(lost))
    finally:
        await connection.close()


@contextlib.contextmanager
def understanding() -> Iterator[None]:
    """Around everything that reads what a server has sent. Raises Violation if that has another form.

    A server may send anything, and readers use it without looking at each member first.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise Violation(f"expected something in the protocol's form, got another ({error!r})") from None
