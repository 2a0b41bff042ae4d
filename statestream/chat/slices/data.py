"""Data of a reply that changes or passes: actions on the slice `chat`.

Data with an id is replaced in its part. Transient data is in no part: `run` has the newest few as `transient`, each
with its number, counted from 1. Those who look at the reply at that time see it. It is removed before the run ends.

Invariants: pure handlers. Applying an action twice changes nothing. The actions are gradual, so the journal keeps no
payloads of them, and folds their changes where that saves space: then nothing remains of what has passed.
"""

from __future__ import annotations

from typing import Any, Final

from typing_extensions import NotRequired, TypedDict

from statestream.chat.slices.conversation import chat_slice, streaming_reply

MAX_TRANSIENT: Final = 32
"""How many of the newest transient data a reply holds, for those who look less often than they come."""


class TransientPayload(TypedDict):
    """Transient data: its number, its type, which begins with `data-`, and the id that it may have."""

    n: int
    type: str
    data: Any
    id: NotRequired[str]


@chat_slice.action(gradual=True)
def replaced(state: Any, *, reply: str, part: int, data: Any) -> None:
    """The data of a part is another one now."""
    parts = streaming_reply(state, reply)["parts"]
    if part < len(parts):
        parts[part]["data"] = data


@chat_slice.action(gradual=True)
def told(state: Any, *, reply: str, items: list[TransientPayload]) -> None:
    """Transient data has come."""
    run = streaming_reply(state, reply)["run"]
    known = run.get("transient", [])
    last = known[-1]["n"] if known else 0
    run["transient"] = [*known, *(item for item in items if item["n"] > last)][-MAX_TRANSIENT:]


@chat_slice.action(gradual=True)
def untold(state: Any, *, reply: str) -> None:
    """The run ends soon: its transient data is removed."""
    streaming_reply(state, reply)["run"].pop("transient", None)
