"""The replies in a journal that have not ended.

Invariants: the journal is only read, so its servers may run meanwhile.
"""

from __future__ import annotations

from typing import Any

from statestream.chat.operators.run_list import INDEX, ListedRun, keys_in, listed_runs
from statestream.chat.slices.conversation import chat_slice, name_of
from statestream.core.selection import Selection
from statestream.journal.contract import Journal
from statestream.journal.history import History


async def runs_in(journal: Journal) -> list[ListedRun]:
    """The oldest first. The journal is open. Raises Expired, JournalUnusable, Unavailable."""
    history = History(journal)
    index = await history.newest(INDEX)
    keys = keys_in(name for name in index.slices if INDEX.matches(name))
    if not keys:
        return []
    chats = await history.newest(Selection(names=frozenset(map(name_of, keys)), families=frozenset()))

    def state_of(key: str) -> Any:
        chat = chats.slices.get(name_of(key))
        return chat_slice.initial if chat is None else chat.value

    return listed_runs(keys, state_of)
