"""What an agent is to do for a reply: the question, what was said before, and what the reply already has.

Invariants: pure, of one committed state. The turns comply with the rules in `turns`, and end with a turn of the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from statestream.chat.agents import HandedOver, Task
from statestream.chat.chats import state_of
from statestream.chat.messages import Message, State, find, handing_over
from statestream.chat.models import Turn
from statestream.chat.provisions import Provisions, with_context
from statestream.chat.replies.deciding import answered, decided
from statestream.chat.replies.sent_files import Filled, filled_in
from statestream.chat.replies.turns import turns_of
from statestream.chat.slices import archive
from statestream.chat.slices.continuations import kept_parts
from statestream.core.errors import Refused
from statestream.store.view import StoreView

ANY_MODEL: Final = ""
"""The name of no model. An agent may send its turns to any: all calls in them get ids that every provider accepts."""


def task_of(view: StoreView, key: str, reply: str, window: int, brought: Provisions, filled: Filled) -> Task:
    """What the agent that makes a reply is to do. `filled` are messages with their files, for the turns.

    Raises Refused if the chat was deleted, and NotLoaded.
    """
    shown = archive.shown_path(view, key, window)
    messages = [message for message in shown if message["id"] != reply][-window:]
    if not messages:
        raise Refused("unknown_chat", "This chat was deleted.")
    made = shown[-1] if shown[-1]["id"] == reply else None
    continues = None if made is None else _continued(state_of(view, key), made)
    marker = None if made is None else handing_over(made)
    part = {} if made is None or marker is None else made["parts"][marker]
    return Task(
        chat=key,
        reply=reply,
        question=messages[-1],
        messages=messages,
        turns=_turns(
            with_context(filled_in(messages, filled), reply, brought.context), made, continues, marker, window
        ),
        decided={} if made is None else decided(made, marker or 0),
        answered={} if made is None else answered(made, marker or 0),
        continues=continues,
        tools=brought.tools,
        context=brought.context,
        handed_over=HandedOver(by=part["by"], note=part.get("note", "")) if part else None,
    )


def _turns(
    messages: Sequence[Message], made: Message | None, continues: Message | None, marker: int | None, window: int
) -> list[Turn]:
    """The turns up to the question, and of what the reply had before this agent began."""
    if made is not None and marker is not None and (continues is None or marker >= len(kept_parts(continues))):
        part, before = made["parts"][marker], {**made, "parts": made["parts"][:marker], "status": "complete"}
        note = f": {part['note']}" if "note" in part else "."
        request = f"[{part['by']} hands this over to you, {part['name']}{note}]"
        return turns_of([*messages, before], window, ANY_MODEL, {}, request)
    return turns_of(messages if continues is None else [*messages, continues], window, ANY_MODEL, {})


def _continued(state: State, reply: Message) -> Message | None:
    """The reply that this one continues, or its own beginning if the chat no longer holds that."""
    if "continues" not in reply:
        return None
    found: Message | None = find(state, reply["continues"])
    return {**reply, "status": "stopped"} if found is None else found
