"""What a script answers: it did its work, or it refuses the position that it was given, or finds something damaged.

Invariants: the first member of an answer names the outcome. Those that every script may have become exceptions here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from statestream.core.errors import Expired, Forked, Unavailable
from statestream.journal.redis.translation import damaged


def verified(answer: Sequence[Any]) -> Sequence[Any]:
    """The answer. Raises Forked, Expired, Unavailable, and JournalUnusable if the script found something damaged."""
    match answer[0]:
        case b"forked":
            raise Forked("the position is not part of this history; start without a position")
        case b"expired":
            raise Expired(f"the journal goes back to {answer[1].decode()} only; start without a position")
        case b"damaged":
            raise damaged(answer[1].decode())
        case b"unknown":
            raise Unavailable("the history does not have the erasure any more, as after a failover; try again")
    return answer
