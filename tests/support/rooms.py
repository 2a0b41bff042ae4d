"""Rooms as three versions of an application's code declare them, on journals of every engine."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from statestream import Slice
from statestream.core.change import Action
from statestream.journal import from_url
from statestream.journal.memory import MemoryJournal
from tests.support import redis_journals
from tests.support.postgresql import shared

ENGINES = ("memory", "sqlite", "postgresql", "redis")
MakeJournal = Callable[[], Any]
"""Each call is another node's journal object of one history."""
_numbers = count()


def journals(engine: str, folder: Path) -> MakeJournal:
    """The nodes of a new journal."""
    if engine == "memory":
        journal = MemoryJournal()
        return lambda: journal
    if engine == "sqlite":
        url = f"sqlite:///{folder / 'journal.db'}"
    elif engine == "postgresql":
        url = shared().new_url()
    else:
        url = f"{redis_journals.shared().url}?namespace=rooms{next(_numbers)}"
    return lambda: from_url(url)


def room(version: int, **more: Any) -> Slice:
    """Rooms whose members are a list at first, then an object by name, then each have a role."""
    initial: dict[str, Any] = {"members": [] if version == 1 else {}}
    declared = Slice(more.pop("name", "room"), initial=initial, keyed=True, version=version, **more)

    @declared.action
    def joined(state: Any, *, who: str) -> None:
        if version == 1:
            state["members"].append(who)
        else:
            state["members"][who] = {} if version == 2 else {"role": "guest"}

    if version > 1:

        @declared.upgrade(2)
        def by_name(state: Any) -> None:
            state["members"] = {who: {} for who in state["members"]}

    if version > 2:

        @declared.upgrade(3)
        def with_roles(state: Any) -> Any:
            return {"members": {who: {"role": "guest"} for who in state["members"]}}

    return declared


def joining(key: str, who: str, name: str = "room") -> Action:
    return Action(type=f"{name}/joined", key=key, payload={"who": who})
