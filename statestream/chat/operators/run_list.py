"""The replies that are in progress or waiting, as operators see them.

Invariants: pure, of the states of chats. Nothing that people or models have written is here, except for the status with
which an agent describes its work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from statestream.chat.message_types import Id, Milliseconds, Tokens
from statestream.chat.messages import Message, State, unfinished
from statestream.chat.prices import Spending, added
from statestream.chat.slices import runs, waits
from statestream.core.selection import Selection

INDEX: Final = Selection(names=frozenset(), families=frozenset((runs.NAME, waits.NAME)))
"""The hidden slices that have an instance for each chat with a reply that has not ended."""


class ListedRun(TypedDict):
    """A reply that has not ended. `since`: when it was asked for; of one that waits, when it began to wait."""

    chat: Id
    reply: Id
    state: Annotated[
        Literal["running", "queued", "waiting"],
        Field(description="`queued`: for its turn. `waiting`: for an approval, or for a window's result."),
    ]
    model: Annotated[str, Field(description="The name of the model or of the agent.")]
    node: NotRequired[Annotated[str, Field(description="The node that makes it.")]]
    since: Milliseconds
    status: NotRequired[Annotated[str, Field(description="What its agent says that it is doing.")]]
    usage: NotRequired[Tokens]
    cost: NotRequired[float]


def keys_in(names: Iterable[str]) -> set[str]:
    """The chats of instances that `INDEX` selects."""
    return {name.partition("/")[2] for name in names}


def listed_runs(
    keys: Iterable[str],
    state_of: Callable[[str], State],
    spending_of: Callable[[str], Spending | None] = lambda _: None,
) -> list[ListedRun]:
    """The unfinished replies of these chats, the oldest first. `spending_of` gives what a run has used so far, if that
    is known.
    """
    found = ((key, unfinished(state_of(key))) for key in keys)
    listed = [_listed(key, reply, spending_of(reply["id"])) for key, reply in found if reply is not None]
    return sorted(listed, key=lambda run: (run["since"], run["chat"]))


def _listed(key: str, reply: Message, spent: Spending | None) -> ListedRun:
    run, is_waiting = reply["run"], reply["status"] == "waiting"
    listed: ListedRun = {
        "chat": key,
        "reply": reply["id"],
        "state": "waiting" if is_waiting else "queued" if run.get("queued") else "running",
        "model": reply["model"],
        "since": reply["updated_at"] if is_waiting else reply["created_at"],
    }
    if "node" in run:
        listed["node"] = run["node"]
    if "status" in run:
        listed["status"] = run["status"]
    if usage := _sum(reply.get("usage", {}), {} if spent is None else spent.usage):
        listed["usage"] = {"input": 0, "output": 0, **usage}  # type: ignore[typeddict-item]  # it has these names
    if "cost" in reply or (spent is not None and spent.cost is not None):
        listed["cost"] = added(reply.get("cost"), 0.0 if spent is None or spent.cost is None else spent.cost)
    return listed


def _sum(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {name: before.get(name, 0) + now.get(name, 0) for name in {**before, **now}}
