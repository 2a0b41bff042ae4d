"""The slice `chat_wait`: the replies that wait for approval until a certain time, so that a node can end them then.

    chat_wait/<chat>  {"reply": its id, "expires_at"}

Invariants: an instance exists while a reply waits that must not wait forever; the same requests write both.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.slices.approvals import RunPayload, decided
from statestream.chat.slices.conversation import deleted, ended
from statestream.core.change import REMOVED
from statestream.core.slices import Slice

NAME: Final = "chat_wait"

waits_slice = Slice(NAME, initial={}, keyed=True, internal=True, hidden=True)


@waits_slice.action
def begun(state: Any, *, reply: str, expires_at: int) -> None:
    """The reply of this chat waits until then."""
    state["reply"], state["expires_at"] = reply, expires_at


@waits_slice.action
def forgotten(state: Any) -> Any:
    """The reply has ended without this slice: a version that does not know it has ended it."""
    return REMOVED


@waits_slice.on(decided)
def _decided(state: Any, *, run: RunPayload | None = None) -> Any:
    return None if run is None else REMOVED


@waits_slice.on(ended)
@waits_slice.on(deleted)
def _over(state: Any) -> Any:
    return REMOVED
