"""The slice `chat_nodes`, and who is alive: a node renews its lease while it makes replies or holds people's streams.

    chat_nodes/<node>  {"renewed_at"}

A run and a person's presence name their node. When a node's lease has not been renewed for a while, as seen by the
clock of whoever looks, what it left behind is ended by the nodes that are there. A process is a new node each time it
starts.

Invariants: clocks of two machines are never compared. A node that holds nothing writes nothing, unless it doubts
another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Final

from statestream.core.change import REMOVED, Action
from statestream.core.errors import StatestreamError
from statestream.core.slices import Slice
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

NAME: Final = "chat_nodes"
RENEWALS: Final = 3
"""How often a lease is renewed while it lasts."""

nodes_slice = Slice(NAME, initial={"renewed_at": 0}, keyed=True, internal=True)


@nodes_slice.action
def renewed(state: Any, action: Action) -> None:
    """The node is alive, and holds something."""
    state["renewed_at"] = action.at


@nodes_slice.action
def left(state: Any) -> Any:
    """The node holds nothing any more, or it is gone."""
    return REMOVED


class Lease:
    """The lease of this node, and what it has seen of the others'. `seconds`: how long one lasts.

    `in_use` says whether this node holds anything, `named` which nodes the state names.
    """

    def __init__(
        self, store: StoreView, seconds: float, in_use: Callable[[], bool], named: Callable[[], Iterable[str]]
    ) -> None:
        self.node = secrets.token_hex(4)
        self._store, self._seconds = store, seconds
        self._in_use, self._named = in_use, named
        self._taking = asyncio.Lock()
        self._held = False
        self._seen: dict[str, tuple[int, float]] = {}

    async def take(self) -> None:
        """Returns once this node has a lease. Raises Unavailable."""
        async with self._taking:
            if not self._held:
                await self._store.dispatch(renewed(self.node))
                self._held = True

    async def keep(self, gone: Callable[[str], Any]) -> None:
        """Renews the lease for ever; calls `await gone(node)` for each node whose lease has run out."""
        while True:
            await asyncio.sleep(self._seconds / RENEWALS)
            try:
                await self._renew()
                for node in self._lapsed(asyncio.get_running_loop().time()):
                    await gone(node)
                    await self._store.dispatch(left(node))
                    del self._seen[node]
            except StatestreamError as error:
                log.warning("a lease could not be renewed, trying again soon: %s", error)
                self._seen.clear()  # while the journal is away, nobody can renew
            except Exception:
                log.exception("looking after the leases failed, trying again soon")

    async def give_back(self) -> None:
        """For the end: the others need not wait. If the journal is away, they do."""
        if self._held:
            with contextlib.suppress(StatestreamError):
                await self._store.dispatch(left(self.node))

    async def _renew(self) -> None:
        async with self._taking:
            if self._in_use() or self._doubts():
                await self._store.dispatch(renewed(self.node))
                self._held = True
            elif self._held:
                await self._store.dispatch(left(self.node))
                self._held = False

    def _doubts(self) -> bool:
        """Whether a node has been silent for so long that it may be dead, or the journal away, or we behind.

        Then we write too: what others wrote is read before that, and nobody is dead by a journal that we cannot write.
        """
        doubtful = asyncio.get_running_loop().time() - self._seconds / 2
        return any(since <= doubtful for _, since in self._seen.values())

    def _lapsed(self, now: float) -> list[str]:
        """The nodes that were seen to do nothing for as long as a lease lasts."""
        versions = {node: self._version(node) for node in {*self._named()} - {self.node}}
        self._seen = {
            node: known if (known := self._seen.get(node, (-1, now)))[0] == version else (version, now)
            for node, version in versions.items()
        }
        return [node for node, (_, since) in self._seen.items() if now - since >= self._seconds]

    def _version(self, node: str) -> int:
        held = self._store.get(f"{NAME}/{node}")
        return 0 if held is None else held.version
