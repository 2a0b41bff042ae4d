"""Replies that grow by a gradual action, beside a board that counts them.

FOLDED is the file, or the URL on Redis, of a journal whose history is folded at once.
"""

from __future__ import annotations

import os
from typing import Any

from statestream import Slice, Store
from statestream.journal import Journal, Retention, SqliteJournal
from statestream.journal.redis import RedisJournal

reply = Slice("reply", initial={"title": "", "text": "", "chunks": []}, keyed=True)
board = Slice("board", initial={"replies": 0})


@reply.action(gradual=True)
def grew(state: Any, *, index: int, text: str) -> None:
    if index >= len(state["chunks"]):
        state["chunks"].append(text)


@reply.action
def done(state: Any, *, title: str) -> None:
    state["text"] = "".join(state["chunks"])
    state["chunks"], state["title"] = [], title


@board.on(grew)
def begun(state: Any, *, index: int) -> None:
    state["replies"] += index == 0


@board.action
def reset(state: Any, *, replies: int) -> None:
    state["replies"] = replies


folded = os.environ.get("FOLDED", "")


def journal() -> Journal | str:
    if not folded:
        return "memory:"
    engine = RedisJournal if folded.startswith("redis:") else SqliteJournal
    return engine(folded, Retention(fold_after=0.0))


store = Store([reply, board], journal=journal())
