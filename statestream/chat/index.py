"""What is going on, found without looking through the chats: which replies are being made, and by which nodes.

Invariants: made from what is committed; after a reset, from all of it again. A change costs a look at its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from statestream.chat import conversation as chat
from statestream.chat import leases, presence
from statestream.chat.messages import streaming
from statestream.core.change import Change
from statestream.core.selection import EVERYTHING
from statestream.store.bus import ResetReason
from statestream.store.view import StoreView

_BEGIN_OR_END: Final = frozenset(action.type for action in (chat.asked, chat.regenerated, chat.ended))


class Index:
    """A listener of the bus. `ended` is called with the id of each reply that has ended."""

    def __init__(self, view: StoreView, ended: Callable[[str], None]) -> None:
        self._view, self._ended = view, ended
        self.making: dict[str, tuple[str, str]] = {}
        """By chat: the reply that is being made, and its node."""
        self._present: set[str] = set()
        self._nodes: set[str] = set()
        for name, _ in view.select(EVERYTHING):
            self._look(name)

    def nodes(self) -> set[str]:
        """Every node that the state names."""
        people = (entry for key in self._present for entry in self._value(f"{presence.NAME}/{key}")["people"].values())
        return (
            self._nodes | {node for _, node in self.making.values()} | {n for entry in people for n in entry["nodes"]}
        )

    def presences(self, node: str) -> list[str]:
        """The chats in which that node has said that somebody is."""
        return [
            key
            for key in self._present
            if any(node in entry["nodes"] for entry in self._value(f"{presence.NAME}/{key}")["people"].values())
        ]

    def _value(self, name: str) -> Any:
        held = self._view.get(name)
        assert held is not None
        return held.value

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.slice.startswith(f"{chat.NAME}/") and change.cause.type not in _BEGIN_OR_END:
                continue
            self._look(change.slice)

    def reset(self, reason: ResetReason) -> None:
        before = dict(self.making)
        self.making.clear()
        self._present.clear()
        self._nodes.clear()
        for name, _ in self._view.select(EVERYTHING):
            self._look(name)
        for key, (reply, _) in before.items():
            if key not in self.making or self.making[key][0] != reply:
                self._ended(reply)

    def _look(self, name: str) -> None:
        family, _, key = name.partition("/")
        if family == chat.NAME:
            self._look_at_chat(name, key)
        elif family == presence.NAME:
            self._keep(self._present, name, key)
        elif family == leases.NAME:
            self._keep(self._nodes, name, key)

    def _look_at_chat(self, name: str, key: str) -> None:
        held = self._view.get(name)
        reply = None if held is None else streaming(held.value)
        known = self.making.pop(key, None)
        if reply is not None:
            self.making[key] = (reply["id"], reply["run"]["node"])
        if known is not None and (reply is None or reply["id"] != known[0]):
            self._ended(known[0])

    def _keep(self, keys: set[str], name: str, key: str) -> None:
        if self._view.get(name) is not None:
            keys.add(key)
        else:
            keys.discard(key)
