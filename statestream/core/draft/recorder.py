"""What a run of a recipe has done so far, and what the runs of a batch have made together.

Invariants: knows of nodes only that they are there. Both know containers by their ids, which say nothing of one that
came from elsewhere while a batch ran: nothing may, see `reduce.Working`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from statestream.core.errors import DraftClosed
from statestream.core.patch import Op

if TYPE_CHECKING:
    from statestream.core.draft.node import Node


class Closed:
    """Stands in for the data of a draft whose action is over."""

    def _refuse(self, *_: object) -> NoReturn:
        raise DraftClosed("expected no use of a draft after its action; copy what must outlive it (copy.deepcopy)")

    __getattr__ = __getitem__ = __len__ = __iter__ = __contains__ = __eq__ = _refuse
    __hash__ = None  # type: ignore[assignment]


CLOSED: Final = Closed()


class Scratch:
    """The containers that the recipes of a batch have made: nobody else sees them yet, so they are written in place.

    A wide list is so copied once for a batch, not for each action. What was written can be taken back to a `mark`.
    An id in `made` whose container is gone may come again, but only for one that this batch has made as well:
    whatever else stands in a document was there before the batch began.
    """

    __slots__ = ("_back", "made")

    def __init__(self) -> None:
        self.made: set[int] = set()
        self._back: list[Callable[[], object]] = []

    @property
    def mark(self) -> int:
        """What has been written until now."""
        return len(self._back)

    def settle(self) -> None:
        """All that was written stays."""
        self._back.clear()

    def wrote(self, back: Callable[[], object]) -> None:
        """Something was written; `back` takes it back."""
        self._back.append(back)

    def undo(self, mark: int = 0) -> None:
        """Takes back what was written since, the last first."""
        while len(self._back) > mark:
            self._back.pop()()


class Recorder:
    """What one run of a recipe has done so far."""

    __slots__ = ("epoch", "kinds", "nodes", "ops", "root", "scratch")

    def __init__(self, kinds: Mapping[type[Any], type[Node]], scratch: Scratch) -> None:
        self.kinds = kinds
        self.scratch = scratch
        self.nodes: dict[int, Node] = {}
        self.ops: list[Op] = []
        self.epoch = 0
        self.root: Node | None = None

    def node(self, data: Any, parent: Node | None, key: str | int) -> Node:
        found = self.kinds[type(data)](self, data, parent, key)
        self.nodes[id(data)] = found
        return found

    def live_ops(self) -> list[Op]:
        return [op for op in self.ops if op]

    def close(self) -> None:
        for node in self.nodes.values():
            node._data, node._parent, node._written = CLOSED, None, None
            node._recorder = CLOSED  # type: ignore[assignment]  # cuts the cycle; refuses every use
        self.nodes.clear()
