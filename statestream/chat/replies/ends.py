"""How replies end.

An end is the arguments of the action `chat/ended`.

Invariants: plain data. The `kind` of an error is stable, and its message is a sentence for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from statestream.chat.chats import owner_of, state_of
from statestream.chat.messages import find
from statestream.chat.models.chunks import BROKEN_OFF as BROKEN
from statestream.chat.models.chunks import LATE
from statestream.chat.slices import conversation, listing, storage
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
TIMED_OUT: Final = failed(*LATE)
BROKEN_OFF: Final = failed(*BROKEN)


def ending(view: StoreView, key: str, reply: str, end: End, **more: Any) -> list[Action]:
    """The actions that end a reply. What an agent has stored stays if somebody may want to continue.

    `more` are further arguments of the action `chat/ended`. Raises NotLoaded.
    """
    owner = conversation.optional(user=owner_of(view, key))
    ended = conversation.ended(key, reply=reply, **end, **more, **owner)
    message = find(state_of(view, key), reply)
    done = [] if message is None or end == INTERRUPTED else storage.clearing(view, key, [message["parent"]])
    return [ended, *listing.updating(view, key, status=listing.IDLE), *done]


async def end_reply(view: StoreView, key: str, reply: str, end: End) -> None:
    """Ends a reply that this node does not make itself. Raises Refused if it has ended already."""
    await view.dispatch(await view.complete(lambda: ending(view, key, reply, end)))
