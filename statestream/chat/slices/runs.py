"""The slice `chat_run`: the replies in progress, so that a node finds them without looking at every chat.

    chat_run/<chat>  {"reply": its id, "node": the node that makes it}

Invariants: an instance exists while the chat has a reply in progress; the same requests write both. It has an action
of its own, because the cause of a change is kept with it, and a question may be large. Replies that were begun by a
version without this slice have no instance.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.slices.approvals import paused
from statestream.chat.slices.conversation import deleted, ended
from statestream.core.change import REMOVED
from statestream.core.slices import Slice

NAME: Final = "chat_run"

runs_slice = Slice(NAME, initial={}, keyed=True, internal=True, hidden=True)


@runs_slice.action
def begun(state: Any, *, reply: str, node: str) -> None:
    """A node makes a reply in this chat."""
    state["reply"], state["node"] = reply, node


@runs_slice.action
def forgotten(state: Any, *, reply: str) -> Any:
    """The reply has ended without this slice: a version that does not know it has ended it."""
    return REMOVED if state.get("reply") in (None, reply) else None


@runs_slice.on(ended)
@runs_slice.on(paused)
@runs_slice.on(deleted)
def _over(state: Any) -> Any:
    return REMOVED
