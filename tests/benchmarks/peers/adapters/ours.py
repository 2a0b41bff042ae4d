"""statestream itself, by its public names only, on the memory journal: served by `statestream serve ours.py:app`.

Every change is an action that goes the whole way, those of a turn together: payload check, handler, journal,
encoding. Its stamps are in the payload, so a reader asks for `cause=full`, and a delivery is timed from the
dispatch on.

HANDOFF  1: readers' sockets are handed off from aiohttp; 0: they stay on its transport
CHATS     changes are tokens, which go round in so many chats, `chat/1` …
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

from aiohttp import web

from statestream import Slice, Store, create_app
from tests.benchmarks.peers import workload

CHATS: Final = int(os.environ.get("CHATS", "0"))
HANDOFF: Final = os.environ.get("HANDOFF", "1") == "1"

app_slice = Slice(workload.SLICE, initial=workload.initial())
chat = Slice("chat", initial={"chunks": []}, keyed=True)


@app_slice.action
def tick(state: Any, *, seq: int, t: int, due: int) -> None:
    state["items"][-1]["n"] = seq


@chat.action
def token(state: Any, *, seq: int, t: int, due: int) -> None:
    state["chunks"].append(" tok")


def action(seq: int, due: int) -> Any:
    if not CHATS:
        return tick(**workload.stamp(seq, due))
    return token(str((seq - 1) % CHATS + 1), **workload.stamp((seq - 1) // CHATS + 1, due))


store = Store([app_slice, chat])


async def make(due: list[tuple[int, int]]) -> None:
    if len(due) == 1:
        await store.dispatch(action(*due[0]))
    else:
        await asyncio.gather(*(store.dispatch(action(*each)) for each in due))


ticker = workload.Ticker(make)


async def control(request: web.Request) -> web.Response:
    return web.json_response(ticker.control(request.query))


def made() -> web.Application:
    made = create_app(store, max_subscribers=1_000_000, handoff=HANDOFF)
    made.router.add_get("/ctl", control)
    return made


app = made()
