"""What is left of a draft when its action is over.

Invariants: whatever is done with it raises DraftClosed, so that a handler notices that it has kept a draft.
"""

from __future__ import annotations

from typing import Final, NoReturn

from statestream.core.errors import DraftClosed


class Closed:
    """Replaces the data of a draft whose action is over. Every use raises DraftClosed."""

    def _refuse(self, *_: object) -> NoReturn:
        raise DraftClosed("a draft cannot be used after its action; copy what you need longer (copy.deepcopy)")

    __getattr__ = __getitem__ = __len__ = __iter__ = __contains__ = __eq__ = _refuse
    __hash__ = None  # type: ignore[assignment]


CLOSED: Final = Closed()
