"""The slice `agent_storage`: what agents keep about their work, so that it survives a crash.

    agent_storage/<chat>  {"questions": {<question>: {<name>: <value>}}}

What is stored while a question is answered stays until a reply to it has ended in the regular way: the request that
ends the reply clears it. If the server was killed in between, the next reply to the same question finds it.

Invariants: the slice is hidden. It holds what belongs to live questions of a chat, and disappears with the chat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from statestream.chat.slices.conversation import deleted
from statestream.core.change import REMOVED, Action
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "agent_storage"

storage_slice = Slice(NAME, initial={"questions": {}}, keyed=True, internal=True, hidden=True)


@storage_slice.action
def stored(state: Any, *, question: str, name: str, value: Any) -> None:
    """The agent that answers the question has stored a value."""
    state["questions"].setdefault(question, {})[name] = value


@storage_slice.action
def cleared(state: Any, *, questions: list[str]) -> Any:
    """Nobody needs what is stored for these questions any more."""
    if state["questions"].keys() <= set(questions):
        return REMOVED
    for question in questions:
        state["questions"].pop(question, None)
    return None


@storage_slice.on(deleted)
def _deleted(state: Any) -> Any:
    return REMOVED


def stored_for(view: StoreView, key: str, question: str) -> Mapping[str, Any]:
    """What is stored for a question. Raises NotLoaded."""
    state = view.get(f"{NAME}/{key}")
    found: Mapping[str, Any] = {} if state is None else state.value["questions"].get(question, {})
    return found


def clearing(view: StoreView, key: str, questions: Sequence[str]) -> list[Action]:
    """The action that clears these questions; none if nothing is stored for them. Raises NotLoaded."""
    state = view.get(f"{NAME}/{key}")
    gone = [] if state is None else [each for each in questions if each in state.value["questions"]]
    return [cleared(key, questions=gone)] if gone else []


def forgetting(view: StoreView, key: str, live: Collection[str]) -> list[Action]:
    """The action that clears all questions but those that are live. Raises NotLoaded."""
    state = view.get(f"{NAME}/{key}")
    return [] if state is None else clearing(view, key, sorted(state.value["questions"].keys() - set(live)))
