"""Leases: a node renews its own while it makes replies or holds people's streams, and watches those of other nodes.

    chat_nodes/<node>  {"renewed_at"}

A run and a person's presence name their node. If a node does not renew its lease for a while, as measured by the clock
of the node that watches, it is lost, and the nodes that are left end what it has left behind. A process is a new node
each time it starts.

Invariants: clocks of two machines are never compared. A node that holds nothing writes nothing, unless it doubts that
another one is alive. It writes its own lease, and removes one of another node only when that has expired. The handlers
of the slice are pure.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from statestream.core.change import REMOVED, Action
from statestream.core.errors import StatestreamError
from statestream.core.slices import Slice
from statestream.store.view import StoreView

log = logging.getLogger("statestream")


NAME: Final = "chat_nodes"
RENEWALS: Final = 3
"""How often a lease is renewed within its duration."""

nodes_slice = Slice(NAME, initial={"renewed_at": 0}, keyed=True, internal=True)


@nodes_slice.action
def renewed(state: Any, action: Action) -> None:
    """The node is alive and needs its lease."""
    state["renewed_at"] = action.at


@nodes_slice.action
def left(state: Any) -> Any:
    """The node no longer needs a lease, or it is lost."""
    return REMOVED


class Lease:
    """The lease of a node, and what it has seen of the leases of others. `seconds` is how long a lease lasts.

    `in_use` returns whether this node holds anything, `named` the nodes that the state names.
    """

    def __init__(
        self,
        view: StoreView,
        node: str,
        seconds: float,
        in_use: Callable[[], bool],
        named: Callable[[], Iterable[str]],
    ) -> None:
        self._view, self._node, self._seconds = view, node, seconds
        self._in_use, self._named = in_use, named
        self._taking = asyncio.Lock()
        self._held = False
        self._seen: dict[str, tuple[int, float]] = {}
        """Of each other node: the version of its lease, and since when it is that."""

    async def take(self) -> None:
        """Returns once this node has a lease. Raises Unavailable."""
        async with self._taking:
            if not self._held:
                await self._view.dispatch(renewed(self._node))
                self._held = True

    async def keep(self, lost: Callable[[str], Any]) -> None:
        """Renews the lease until cancelled. Awaits `lost(node)` for each node whose lease has expired."""
        while True:
            await asyncio.sleep(self._seconds / RENEWALS)
            try:
                await self._renew()
                for node in self._expired(asyncio.get_running_loop().time()):
                    await lost(node)
                    await self._view.dispatch(left(node))
                    del self._seen[node]
            except StatestreamError as error:
                self._view.vitals.troubles.warn("a lease could not be renewed, trying again soon: %s", error)
                self._seen.clear()  # while the journal is unavailable, no node can renew its lease
            except Exception:
                log.exception("looking after the leases failed, trying again soon")

    async def give_back(self) -> None:
        """Ends the lease of a node that stops, so that others need not wait until it expires."""
        if self._held:
            with contextlib.suppress(StatestreamError):  # the journal is unavailable: then it expires
                await self._view.dispatch(left(self._node))

    async def _renew(self) -> None:
        async with self._taking:
            if self._in_use() or self._doubts():
                await self._view.dispatch(renewed(self._node))
                self._held = True
            elif self._held:
                await self._view.dispatch(left(self._node))
                self._held = False

    def _doubts(self) -> bool:
        """Whether a node has been silent for half a lease: it may be lost, this node behind, or the journal down.

        Then this node writes, too. Writing first reads what others have written, and a journal that cannot be written
        to makes no node lost.
        """
        doubtful = asyncio.get_running_loop().time() - self._seconds / 2
        return any(since <= doubtful for _, since in self._seen.values())

    def _expired(self, now: float) -> list[str]:
        """The nodes whose leases have not changed for as long as a lease lasts."""
        versions = {node: self._version(node) for node in {*self._named()} - {self._node}}
        self._seen = {
            node: known if (known := self._seen.get(node, (-1, now)))[0] == version else (version, now)
            for node, version in versions.items()
        }
        return [node for node, (_, since) in self._seen.items() if now - since >= self._seconds]

    def _version(self, node: str) -> int:
        lease = self._view.get(f"{NAME}/{node}")
        return 0 if lease is None else lease.version
