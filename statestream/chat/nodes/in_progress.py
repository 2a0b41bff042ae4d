"""An index of what is in progress, and the end of what a lost node has left behind.

The index has the replies that are being made, and by which nodes; the replies that wait until a certain time; the
questions that wait for their turn or time; and who is present through which node.

Invariants: derived from committed state; after a reset, from all of it again, but not from the chats themselves. A
change costs a look at its cause. Every
node that notices the loss of another may end what it left behind, at the same time as others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import orjson
from msgspec import Struct

from statestream.chat.messages import State, streaming
from statestream.chat.nodes import lease, presence
from statestream.chat.people import correct
from statestream.chat.replies.ends import EXPIRED, INTERRUPTED, end_reply
from statestream.chat.slices import approvals, continuations, conversation, later, runs, waits
from statestream.core.change import Change, now_ms
from statestream.core.errors import Refused, StatestreamError, VersionConflict
from statestream.core.selection import Selection
from statestream.store.bus import ResetReason
from statestream.store.view import StoreView

_OVER: Final = frozenset((conversation.ended.type, approvals.paused.type))
_BEGIN: Final = frozenset(
    action.type for action in (conversation.asked, conversation.regenerated, continuations.continued)
)
INDEXED: Final = Selection(
    names=frozenset(), families=frozenset((runs.NAME, waits.NAME, later.NAME, presence.NAME, lease.NAME))
)
"""What is read here, by code that cannot wait: it must be held in memory."""


class ReplyInProgress(Struct, frozen=True):
    """A reply, and the node that makes it."""

    reply: str
    node: str


class Wait(Struct, frozen=True):
    """A reply that waits, and the Unix time in ms at which it ends."""

    reply: str
    expires_at: int


class InProgress:
    """A listener of the bus. `ended` is called with the id of each reply that has ended."""

    def __init__(self, view: StoreView, ended: Callable[[str], None]) -> None:
        self._view, self._ended = view, ended
        self.replies: dict[str, ReplyInProgress] = {}
        """By the keys of their chats."""
        self.waits: dict[str, Wait] = {}
        """The replies that wait only until a certain time, by the keys of their chats."""
        self.later: dict[str, int] = {}
        """From when on a question may be asked that waits for its turn or its time, by the keys of their chats."""
        self._present: set[str] = set()
        self._leased: set[str] = set()

    def load(self) -> None:
        """Reads what is committed already."""
        self.replies.clear()
        self.waits.clear()
        self.later.clear()
        self._present.clear()
        self._leased.clear()
        for name in self._view.versions(INDEXED):
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
            family, _, key = change.slice.partition("/")
            if family != conversation.NAME:
                self._update(change.slice)
            elif change.cause.type in _BEGIN:  # also by a node that does not know the slice of runs
                reply = orjson.loads(change.cause.payload)["reply"]
                self._set(key, ReplyInProgress(reply["id"], reply["node"]))
            elif change.cause.type in _OVER or change.kind == "removed":
                self._set(key, None)

    def note(self, key: str, state: State) -> None:
        """Adds the reply in progress of a chat that somebody looks at, if it was begun before there was an index."""
        reply = streaming(state)
        if reply is not None and key not in self.replies:
            self._set(key, ReplyInProgress(reply["id"], reply["run"]["node"]))

    def reset(self, reason: ResetReason) -> None:
        before = dict(self.replies)
        self.load()
        for key, known in before.items():
            if key not in self.replies or self.replies[key].reply != known.reply:
                self._ended(known.reply)

    def _update(self, name: str) -> None:
        family, _, key = name.partition("/")
        if family == runs.NAME:
            run = self._view.get(name)
            self._set(key, None if run is None else ReplyInProgress(run.value["reply"], run.value["node"]))
        elif family == waits.NAME:
            wait = self._view.get(name)
            self.waits.pop(key, None)
            if wait is not None and "expires_at" in wait.value:
                self.waits[key] = Wait(wait.value["reply"], wait.value["expires_at"])
        elif family == later.NAME:
            kept = self._view.get(name)
            self.later.pop(key, None)
            if kept is not None:
                self.later[key] = later.earliest(kept.value)
        elif family == presence.NAME:
            self._update_key(self._present, name, key)
        elif family == lease.NAME:
            self._update_key(self._leased, name, key)

    def _set(self, key: str, reply: ReplyInProgress | None) -> None:
        known = self.replies.pop(key, None)
        if reply is not None:
            self.replies[key] = reply
        if known is not None and (reply is None or reply.reply != known.reply):
            self._ended(known.reply)

    def _update_key(self, keys: set[str], name: str, key: str) -> None:
        if self._view.version(name):
            keys.add(key)
        else:
            keys.discard(key)


log = logging.getLogger("statestream")


class Recovery:
    """Call `recover` for each node whose lease has expired, and `expire` at regular intervals."""

    def __init__(self, view: StoreView, in_progress: InProgress) -> None:
        self._view, self._in_progress = view, in_progress

    async def recover(self, node: str) -> None:
        """Ends the replies and the presence that a node has left behind. Raises Unavailable."""
        for key, reply in tuple(self._in_progress.replies.items()):
            if reply.node == node:
                try:
                    await end_reply(self._view, key, reply.reply, INTERRUPTED, expect=self._as_of(runs.NAME, key))
                except Refused:  # another node was first
                    await self._view.dispatch(runs.forgotten(key, reply=reply.reply))
                except VersionConflict:  # it goes on elsewhere
                    continue
        for key in self._in_progress.presences(node):
            await self._view.dispatch(presence.node_lost(key, node=node))
        log.info("node %s is lost; its replies and its presence were ended", node)

    async def expire(self) -> None:
        """Ends the replies whose time to wait is over. If one cannot be ended now, it is tried again."""
        for key, wait in tuple(self._in_progress.waits.items()):
            if wait.expires_at <= now_ms():
                try:
                    await self._expire(key, wait)
                except StatestreamError as error:
                    self._view.vitals.troubles.warn("a reply that has waited too long could not be ended: %s", error)
                except Exception:
                    log.exception("a reply that has waited too long could not be ended, trying again soon")

    async def _expire(self, key: str, wait: Wait) -> None:
        try:
            await end_reply(self._view, key, wait.reply, EXPIRED, expect=self._as_of(waits.NAME, key))
        except VersionConflict:  # somebody has decided
            return
        except Refused:  # another node was first
            await self._view.dispatch(waits.forgotten(key, reply=wait.reply))
        await correct(self._view, key)

    def _as_of(self, family: str, key: str) -> dict[str, int]:
        """The version that the end of a reply is based on. This node may lag behind."""
        return {f"{family}/{key}": self._view.version(f"{family}/{key}")}
