"""Replies that grow by a gradual action, beside a board that counts their pieces."""

from __future__ import annotations

from typing import Any

from statestream import Slice, Store

reply = Slice("reply", initial={"title": "", "text": "", "chunks": []}, keyed=True)
board = Slice("board", initial={"pieces": 0})


@reply.action(gradual=True)
def grew(state: Any, *, index: int, text: str) -> None:
    if index >= len(state["chunks"]):
        state["chunks"].append(text)


@reply.action
def done(state: Any, *, title: str) -> None:
    state["text"] = "".join(state["chunks"])
    state["chunks"], state["title"] = [], title


@board.on(grew)
def counted(state: Any) -> None:
    state["pieces"] += 1


store = Store([reply, board])
