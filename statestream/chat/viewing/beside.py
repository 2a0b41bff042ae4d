"""Slices beside a conversation: what a viewer follows in addition to the chat.

Invariants: only slices that are known to have changed are read, and only through the viewer's own view.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from statestream.chat.viewing.projection import Beside
from statestream.core.selection import Selection
from statestream.store.view import StoreView


class SlicesBeside:
    """The slices that one viewer follows beside a conversation."""

    def __init__(self, view: StoreView, selection: Selection) -> None:
        self._view, self._selection = view, selection
        self._looked = False

    @property
    def names(self) -> list[str]:
        """What to wait for, as a Notifier takes it."""
        if self._selection.everything:
            return ["*"]
        return [*self._selection.names, *(f"{family}/*" for family in self._selection.families)]

    def look(self, changed: AbstractSet[str] | None) -> Beside:
        """All the slices at the first look, then those of them that have changed; None: any may have.

        Raises TooLarge if they have become more than a snapshot holds.
        """
        if changed is None or not self._looked:
            self._looked = True
            return Beside(slices=self._view.snapshot(self._selection).slices, whole=True)
        names = (name for name in changed if self._selection.matches(name))
        return Beside(slices={name: self._view.get(name) for name in names}, whole=False)
