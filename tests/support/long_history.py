"""Makes journals with a real history, each in a process that ends without closing its journal, or after closing it.

python -m tests.support.long_history PATH young|closed|trimmed|large
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path
from typing import Any

import msgspec

from statestream import REMOVED, Slice, Store
from statestream.core.change import Change
from statestream.journal import Retention, SqliteJournal

KINDS = {
    "young": (Retention(), 60, False),  # nearly all of it is in the write-ahead log
    "closed": (Retention(checkpoint=70), 250, True),
    "trimmed": (Retention(changes=90, age=0.0, bytes=0, checkpoint=40), 300, False),
    "large": (Retention(checkpoint=300), 900, False),  # the write-ahead log has begun anew in between
}
"""By name: the retention, how many requests, and whether the journal is closed."""

board = Slice("board", initial={"tasks": [], "done": 0})
room = Slice("room", initial={"members": []}, keyed=True)


@board.action
def task_added(state: Any, *, id: str) -> None:
    state["tasks"].append({"id": id, "title": "Water the plants on the balcony"})
    if len(state["tasks"]) > 40:
        del state["tasks"][0]


@board.action
def nothing_done(state: Any) -> None:
    """Leaves a record and no change."""


@room.action
def joined(state: Any, *, name: str) -> None:
    state["members"].append(name)


@room.action
def closed(state: Any) -> Any:
    return REMOVED


async def make(path: Path, kind: str) -> None:
    retention, count, close = KINDS[kind]
    chance = random.Random(kind)
    store = Store([board, room], journal=SqliteJournal(path, retention))
    changes: list[Change] = []
    store.on_change(changes.append)
    await store.__aenter__()
    number = 0
    while number < count:
        actions = []
        for _ in range(chance.choice([1, 1, 2, 5, 12])):
            number += 1
            key = str(chance.randrange(30))
            act = chance.choice([task_added(id=str(number)), joined(key, name=f"n{number}"), joined(key, name="x")])
            act = chance.choice([act] * 8 + [nothing_done(), closed(key)])
            actions.append(store.dispatch(act, id=f"id-{number}" if number % 3 else None))
        await asyncio.gather(*actions)
    if close:
        await store.__aexit__()
    path.with_suffix(".changes").write_bytes(msgspec.msgpack.encode(changes))
    os._exit(0)  # as if it was killed: SQLite would move the write-ahead log into the file


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]), sys.argv[2]))
