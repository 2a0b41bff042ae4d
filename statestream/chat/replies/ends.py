"""How replies end.

An end is the arguments of the action `chat/ended`. If nothing is left to do until people decide about tool calls, the
run ends as well, but its reply does not: it waits.

Invariants: plain data. The `kind` of an error is stable, and its message is a sentence for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from statestream.chat.approvals import deadline
from statestream.chat.chats import owner_of, state_of
from statestream.chat.messages import Message, find, undecided
from statestream.chat.models.failures import BROKEN_OFF as BROKEN
from statestream.chat.models.failures import LATE
from statestream.chat.provisions import NONE, Provisions
from statestream.chat.slices import approvals, conversation, listing, storage, waits
from statestream.core.change import Action
from statestream.core.principal import Identity
from statestream.store.view import StoreView

End = Mapping[str, Any]
MAX_REASON: Final = 64


def failed(kind: str, sentence: str) -> End:
    """An end with an error."""
    return {"status": "error", "error": {"kind": kind, "message": sentence}}


def complete(reason: str) -> End:
    """An end without one. `reason` may be whatever a provider says."""
    return {"status": "complete", "finish_reason": reason.encode(errors="replace").decode()[:MAX_REASON]}


OVER_BUDGET: Final = "budget"
"""The kind of the error if a reply has used more than its budget."""
WAITING: Final[End] = {"status": "waiting"}
STOPPED: Final[End] = {"status": "stopped"}
INTERRUPTED: Final = failed("interrupted", "The reply was interrupted before it was done.")
NOT_STORABLE: Final = failed("failed", "The model's answer cannot be stored.")
EXPIRED: Final = failed("expired", "Nobody decided in time.")
TRUNCATED: Final = failed("truncated", "The reply was cut short.")
DECLINED: Final = failed("refused", "The model declined to answer.")
EMPTY: Final = failed("empty", "The model said nothing.")
TIMED_OUT: Final = failed(*LATE)
BROKEN_OFF: Final = failed(*BROKEN)


def ending(
    view: StoreView,
    key: str,
    reply: str,
    end: End,
    *,
    asker: Identity | None = None,
    brought: Provisions = NONE,
    **more: Any,
) -> list[Action]:
    """The actions that end a reply or let it wait. Values that an agent has stored stay if the reply may be continued.

    For a waiting reply, `asker` is the person who asked, and `brought` what their question brings. `more` are further
    arguments of the action `chat/ended`. Raises NotLoaded.
    """
    more |= conversation.optional(user=owner_of(view, key))
    message = find(state_of(view, key), reply)
    if end == WAITING:
        paused = approvals.paused(key, reply=reply, **more)
        return [paused, *listing.updating(view, key, status=listing.WAITING), *_wait(key, message, asker, brought)]
    ended = conversation.ended(key, reply=reply, **end, **more)
    done = [] if message is None or end == INTERRUPTED else storage.clearing(view, key, [message["parent"]])
    return [ended, *listing.updating(view, key, status=listing.IDLE), *done]


def _wait(key: str, message: Message | None, asker: Identity | None, brought: Provisions) -> list[Action]:
    if message is None:
        return []
    expires_at, kept = deadline(message, undecided(message)), waits.kept(asker)
    more = conversation.optional(expires_at=expires_at, asker=kept, brought=brought.kept())
    return [waits.begun(key, reply=message["id"], **more)]


async def end_reply(
    view: StoreView, key: str, reply: str, end: End, *, expect: Mapping[str, int] | None = None
) -> None:
    """Ends a reply that this node does not make itself. `expect` are the versions that this is based on.

    Raises Refused if it has already ended, and VersionConflict.
    """
    await view.dispatch(await view.complete(lambda: ending(view, key, reply, end)), expect=expect)
