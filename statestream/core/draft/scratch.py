"""The containers that the recipes of a batch have made together, and how to take back what was written to them.

Invariants: knows containers by their ids only. An id means nothing for a container that came from elsewhere while the
batch ran, so none may be added before `forget`; see `store.transaction.Transaction`.
"""

from __future__ import annotations

from collections.abc import Callable


class Scratch:
    """Nobody else sees these containers yet, so they are written in place.

    That way a wide list is copied once for a batch, not once for each action. What was written can be taken back to a
    `mark`. The id of a container that is gone may be used again, but only by one that this batch has made as well:
    everything else in a document was there before the batch began.
    """

    __slots__ = ("_undo", "made")

    def __init__(self) -> None:
        self.made: set[int] = set()
        self._undo: list[Callable[[], object]] = []

    @property
    def mark(self) -> int:
        """Stands for everything that has been written so far."""
        return len(self._undo)

    def settle(self) -> None:
        """Everything that was written stays."""
        self._undo.clear()

    def forget(self) -> None:
        """From now on, nothing is written in place that was made before."""
        self.made.clear()

    def wrote(self, undo: Callable[[], object]) -> None:
        """Something was written; `undo` takes it back."""
        self._undo.append(undo)

    def undo(self, mark: int = 0) -> None:
        """Takes back what was written since the mark, the last first."""
        while len(self._undo) > mark:
            self._undo.pop()()
