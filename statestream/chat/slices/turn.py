"""Whether it is somebody's turn in a chat: no reply is unfinished, and no other question comes first.

Invariants: pure, for handlers of the slice `chat`.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.messages import queued, streaming, waiting
from statestream.core.errors import Refused

UNFINISHED: Final = frozenset(("busy", "waiting"))
"""The codes of the refusal if a reply is unfinished, or questions wait in the queue."""
QUEUE_FIRST: Final = "Other questions are waiting in this chat; wait until they have been asked."


def check_idle(state: Any) -> None:
    """Raises Refused if a reply is unfinished, or if questions wait in the queue."""
    _check_finished(state)
    if queued(state):
        raise Refused("busy", QUEUE_FIRST)


def take_turn(state: Any, question: str) -> None:
    """Raises Refused if a reply is unfinished, or if other questions come first. Takes this one from the queue."""
    _check_finished(state)
    first = queued(state)
    if first and first[0]["id"] != question:
        raise Refused("busy", QUEUE_FIRST)
    if len(first) > 1:
        state["queued"] = list(first[1:])
    elif first:
        del state["queued"]


def _check_finished(state: Any) -> None:
    if streaming(state) is not None:
        raise Refused("busy", "A reply is in progress in this chat; wait until it has ended.")
    if waiting(state) is not None:
        raise Refused("waiting", "A tool call in this chat still waits. Approve, deny or run it, or stop the reply.")
