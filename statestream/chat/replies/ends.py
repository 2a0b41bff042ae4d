"""How replies end: completely, stopped by a person, or with an error.

Invariants: an end is the arguments of the action `chat/ended`. Its `kind` is stable and its message is a sentence for
people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from statestream.chat.chats import owner_of
from statestream.chat.slices import conversation
from statestream.store.view import StoreView

End = Mapping[str, Any]


def failed(kind: str, sentence: str) -> End:
    """An end with an error."""
    return {"status": "error", "error": {"kind": kind, "message": sentence}}


STOPPED: Final[End] = {"status": "stopped"}
INTERRUPTED: Final = failed("interrupted", "The reply was interrupted before it was done.")
BROKEN_OFF: Final = failed("failed", "The model stopped with an error.")
NOT_STORABLE: Final = failed("failed", "The model's answer cannot be stored.")
TRUNCATED: Final = failed("truncated", "The reply was cut short.")
DECLINED: Final = failed("refused", "The model declined to answer.")
EMPTY: Final = failed("empty", "The model said nothing.")
TIMED_OUT: Final = failed("timeout", "The model did not answer in time.")


async def end_reply(view: StoreView, key: str, reply: str, end: End) -> None:
    """Ends a reply that this node does not make itself. Raises Refused if it has ended already."""
    owner = conversation.optional(user=owner_of(view, key))
    await view.dispatch(conversation.ended(key, reply=reply, **end, **owner))
