"""How a node learns at once that another one has written: a read of the stream of changes that blocks until there are.

What arrives is discarded, since `read` checks where it continues, and a stream does not: after a position that was
trimmed, or one of another history, Redis sends whatever it has. Pub/sub would bring every message of this node too, and
those that nobody has read would pile up. A read that blocks is answered once.

Invariants: whatever happens to the connection, a wait ends after POLL_SECONDS, and something, nearly always, before.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from statestream.core.change import Position
from statestream.core.errors import StatestreamError
from statestream.journal.redis.address import Address
from statestream.journal.redis.keys import changes_key
from statestream.journal.redis.link import Link

POLL_SECONDS: Final = 0.5
"""A change whose wake-up was lost is noticed after this time."""
ANSWER_SECONDS: Final = POLL_SECONDS + 0.25
"""How long the server may take to say that there is nothing."""


class Waking:
    """The connection of those who wait."""

    def __init__(self, address: Address) -> None:
        self.link = Link(address, ANSWER_SECONDS)
        self._changes = changes_key(address.namespace)

    async def woken(self, after: Position) -> bool:
        """Whether there is certainly something after a position. Returns after POLL_SECONDS at the latest."""
        began = monotonic()
        try:
            found = await self.link.command(
                "XREAD",
                "COUNT",
                1,
                "BLOCK",
                int(POLL_SECONDS * 1000),
                "STREAMS",
                self._changes,
                after.seq,
            )
        except StatestreamError:
            await asyncio.sleep(max(0.0, began + POLL_SECONDS - monotonic()))
            return False
        return found is not None
