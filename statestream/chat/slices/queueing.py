"""What happens to a reply whose run waits for its turn: actions on the slice `chat`.

Invariants: pure handlers. A reply that is queued is `streaming` for everybody, and can be stopped like any other.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.slices.conversation import chat_slice, streaming_reply

QUEUED: Final = "Waiting for its turn"
"""The status of a reply whose run has not begun."""


@chat_slice.action
def queued(state: Any, *, reply: str) -> None:
    """The run of the reply waits for its turn."""
    run = streaming_reply(state, reply)["run"]
    run["status"], run["queued"] = QUEUED, True


@chat_slice.action
def began(state: Any, *, reply: str) -> None:
    """The run of the reply begins."""
    run = streaming_reply(state, reply)["run"]
    run.pop("queued", None)
    if run.get("status") == QUEUED:
        del run["status"]
