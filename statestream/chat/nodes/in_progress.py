"""An index of what is in progress, and the end of what a lost node has left behind.

The index has the replies that are being made, and by which nodes, and who is present through which node.

Invariants: derived from committed state; after a reset, from all of it again. A change costs a look at its cause. Every
node that notices the loss of another may end what it left behind, at the same time as others.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from statestream.chat.messages import streaming
from statestream.chat.nodes import lease, presence
from statestream.chat.replies.reply_run import INTERRUPTED, end_reply
from statestream.chat.slices import conversation
from statestream.core.change import Change
from statestream.core.errors import Refused
from statestream.core.selection import Selection
from statestream.store.bus import ResetReason
from statestream.store.view import StoreView

_BEGIN_OR_END: Final = frozenset(
    action.type for action in (conversation.asked, conversation.regenerated, conversation.ended)
)
_INDEXED: Final = Selection(names=frozenset(), families=frozenset((conversation.NAME, presence.NAME, lease.NAME)))


class ReplyInProgress(Struct, frozen=True):
    """A reply, and the node that makes it."""

    reply: str
    node: str


class InProgress:
    """A listener of the bus. `ended` is called with the id of each reply that has ended."""

    def __init__(self, view: StoreView, ended: Callable[[str], None]) -> None:
        self._view, self._ended = view, ended
        self.replies: dict[str, ReplyInProgress] = {}
        """By the keys of their chats."""
        self._present: set[str] = set()
        self._leased: set[str] = set()

    def load(self) -> None:
        """Reads what is committed already."""
        self.replies.clear()
        self._present.clear()
        self._leased.clear()
        for name, _ in self._view.select(_INDEXED):
            self._update(name)

    def nodes(self) -> set[str]:
        """Every node that the state names."""
        makers = {reply.node for reply in self.replies.values()}
        return self._leased | makers | {node for key in self._present for node in self._nodes_present(key)}

    def presences(self, node: str) -> list[str]:
        """The chats in which people are present through that node."""
        return [key for key in self._present if node in self._nodes_present(key)]

    def _nodes_present(self, key: str) -> Iterator[str]:
        state = self._view.get(f"{presence.NAME}/{key}")
        people: dict[str, Any] = {} if state is None else state.value["people"]
        return (node for entry in people.values() for node in entry["nodes"])

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.slice.startswith(f"{conversation.NAME}/") and change.cause.type not in _BEGIN_OR_END:
                continue
            self._update(change.slice)

    def reset(self, reason: ResetReason) -> None:
        before = dict(self.replies)
        self.load()
        for key, known in before.items():
            if key not in self.replies or self.replies[key].reply != known.reply:
                self._ended(known.reply)

    def _update(self, name: str) -> None:
        family, _, key = name.partition("/")
        if family == conversation.NAME:
            self._update_reply(name, key)
        elif family == presence.NAME:
            self._update_key(self._present, name, key)
        elif family == lease.NAME:
            self._update_key(self._leased, name, key)

    def _update_reply(self, name: str, key: str) -> None:
        chat = self._view.get(name)
        reply = None if chat is None else streaming(chat.value)
        known = self.replies.pop(key, None)
        if reply is not None:
            self.replies[key] = ReplyInProgress(reply["id"], reply["run"]["node"])
        if known is not None and (reply is None or reply["id"] != known.reply):
            self._ended(known.reply)

    def _update_key(self, keys: set[str], name: str, key: str) -> None:
        if self._view.get(name) is not None:
            keys.add(key)
        else:
            keys.discard(key)


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
