"""A reply that has not begun, because its question is queued: shown by whatever protocol, once it begins.

Invariants: pure, like every projection. Until the question is asked or removed, there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Callable

from statestream.chat.messages import is_queued, reply_to
from statestream.chat.questions import Asked
from statestream.chat.viewing.projection import Item, Look, Projection


class Pending:
    """The projection that `begin` makes of the reply to a question, once there is one.

    `removed` gives the items that say that there will be none. A protocol that cannot say so gives None: the response
    is truncated.
    """

    def __init__(
        self, question: str, begin: Callable[[str], Projection], removed: Callable[[], list[Item] | None]
    ) -> None:
        self._question, self._begin, self._removed = question, begin, removed
        self._begun: Projection | None = None
        self._over = self._truncated = False

    @property
    def over(self) -> bool:
        return self._over if self._begun is None else self._begun.over

    @property
    def truncated(self) -> bool:
        return self._truncated if self._begun is None else self._begun.truncated

    def new(self, look: Look) -> list[Item]:
        """The items that follow those of the last look."""
        if self._begun is None:
            reply = reply_to(look.state, self._question)
            if reply is not None:
                self._begun = self._begin(str(reply["id"]))
        if self._begun is not None:
            return self._begun.new(look)
        if is_queued(look.state, self._question):
            self._truncated = look.last
            return []
        self._over, items = True, self._removed()
        self._truncated = items is None
        return items or []


def shown(asked: Asked, begin: Callable[[str], Projection], removed: Callable[[], list[Item] | None]) -> Projection:
    """The projection of the reply to a question that was just asked; see Pending."""
    return begin(asked.reply) if asked.reply is not None else Pending(asked.question, begin, removed)
