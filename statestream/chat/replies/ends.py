"""How replies end.

An end is the arguments of the action `chat/ended`.

Invariants: plain data. The `kind` of an error is stable, and its message is a sentence for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from statestream.chat.chats import owner_of
from statestream.chat.slices import conversation, listing
from statestream.core.change import Action
from statestream.store.view import StoreView

End = Mapping[str, Any]
MAX_REASON: Final = 64


def failed(kind: str, sentence: str) -> End:
    """An end with an error."""
    return {"status": "error", "error": {"kind": kind, "message": sentence}}


def complete(reason: str) -> End:
    """An end without one. `reason` may be whatever a provider says."""
    return {"status": "complete", "finish_reason": reason.encode(errors="replace").decode()[:MAX_REASON]}


STOPPED: Final[End] = {"status": "stopped"}
INTERRUPTED: Final = failed("interrupted", "The reply was interrupted before it was done.")
NOT_STORABLE: Final = failed("failed", "The model's answer cannot be stored.")
TRUNCATED: Final = failed("truncated", "The reply was cut short.")
DECLINED: Final = failed("refused", "The model declined to answer.")
EMPTY: Final = failed("empty", "The model said nothing.")
TIMED_OUT: Final = failed("timeout", "The model did not answer in time.")
BROKEN_OFF: Final = failed("failed", "The model stopped with an error.")


async def end_reply(view: StoreView, key: str, reply: str, end: End) -> None:
    """Ends a reply that this node does not make itself. Raises Refused if it has ended already."""

    def actions() -> list[Action]:
        owner = conversation.optional(user=owner_of(view, key))
        ended = conversation.ended(key, reply=reply, **end, **owner)
        return [ended, *listing.updating(view, key, status=listing.IDLE)]

    await view.dispatch(await view.complete(actions))
