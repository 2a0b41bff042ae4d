"""Ends what a lost node has left behind: the replies that it made, and the presence of people through it.

Invariants: every node that notices the loss may do this, at the same time as others.
"""

from __future__ import annotations

import contextlib
import logging

from statestream.chat.nodes.in_progress import InProgress
from statestream.chat.replies.ends import INTERRUPTED, end_reply
from statestream.chat.slices import presence
from statestream.core.errors import Refused
from statestream.store.view import StoreView

log = logging.getLogger("statestream")


class Recovery:
    """Call `recover` for each node whose lease has expired."""

    def __init__(self, view: StoreView, in_progress: InProgress) -> None:
        self._view, self._in_progress = view, in_progress

    async def recover(self, node: str) -> None:
        """Ends the replies and the presence that a node has left behind. Raises Unavailable."""
        for key, reply in tuple(self._in_progress.replies.items()):
            if reply.node == node:
                with contextlib.suppress(Refused):  # another node was first
                    await end_reply(self._view, key, reply.reply, INTERRUPTED)
        for key in self._in_progress.presences(node):
            await self._view.dispatch(presence.node_lost(key, node=node))
        log.info("node %s is lost; its replies and its presence were ended", node)
