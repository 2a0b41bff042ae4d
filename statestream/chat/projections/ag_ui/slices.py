"""The slices beside a chat as AG-UI's state: one object, a member for each slice by its full name.

Invariants: the cursor is the states that were shown last, which share what has not changed with those of today: what is
new is their difference, however many changes led to it. Only slices that are said to have changed are looked at.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import orjson

from statestream.chat.projections.ag_ui.messages import MAX_SNAPSHOT, Event
from statestream.core.change import SliceState
from statestream.core.errors import TooLarge
from statestream.core.patch import Op, diff
from statestream.core.selection import Selection
from statestream.core.values import escape
from statestream.store.view import StoreView


class SlicesProjection:
    """One viewer of the slices of a selection."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self._shown: dict[str, SliceState] | None = None

    def new(self, view: StoreView, changed: AbstractSet[str] | None) -> list[Event]:
        """What happened to the slices of these names; None: anything may have. Raises TooLarge."""
        if self._shown is None or changed is None:
            self._shown = self.fitting(view)
            members = {name: orjson.Fragment(state.encoded()) for name, state in self._shown.items()}
            return [{"type": "STATE_SNAPSHOT", "snapshot": members}]
        ours = sorted(name for name in changed if self.selection.matches(name))
        delta = [op for name in ours for op in self._difference(name, view.get(name))]
        return [{"type": "STATE_DELTA", "delta": delta}] if delta else []

    def fitting(self, view: StoreView) -> dict[str, SliceState]:
        """The selected slices that exist. Raises TooLarge where the client would not take so much at once."""
        found = dict(view.snapshot(self.selection).slices)
        if sum(len(state.encoded()) for state in found.values()) > MAX_SNAPSHOT:
            raise TooLarge(f"expected slices of at most {MAX_SNAPSHOT >> 20} MiB in all, got more; ask for fewer")
        return found

    def _difference(self, name: str, after: SliceState | None) -> list[Op]:
        assert self._shown is not None
        before = self._shown.pop(name, None)
        path = f"/{escape(name)}"
        if after is None:
            return [] if before is None else [{"op": "remove", "path": path}]
        self._shown[name] = after
        if before is None:
            return [{"op": "add", "path": path, "value": after.value}]
        return diff(before.value, after.value, path)
