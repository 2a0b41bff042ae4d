"""An application with a large state, of which one request may try to take everything at once.

`many/0` to `many/49999`, each tiny; `big`, as large as a snapshot may be; `rows`, a list of 100,000 numbers; `tick`, on
which a reader measures its latency; and a chat with the demo's model.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from statestream import Slice, Store, create_app
from statestream.chat import Chat
from statestream.chat.models.demo import DemoModel

INSTANCES = int(os.environ.get("CROWDED_INSTANCES", "50000"))

tick = Slice("tick", initial={"at": 0.0})
many = Slice("many", initial={"n": 0}, keyed=True)
room = Slice("room", initial={"n": 0}, keyed=True)
big = Slice("big", initial={"text": ["x" * (1 << 16)] * 230, "version": 0})
rows = Slice("rows", initial={"list": [], "times": 0})


@tick.action
def ticked(state: Any, *, at: float) -> None:
    state["at"] = at


@many.action
def touched(state: Any) -> None:
    state["n"] += 1


@room.action
def entered(state: Any) -> None:
    state["n"] += 1


@big.action
def renewed(state: Any) -> None:
    state["version"] += 1


@rows.action
def filled(state: Any, *, size: int) -> None:
    state["list"] = list(range(size))


@rows.action
def shuffled(state: Any, *, seed: int) -> None:
    random.Random(seed).shuffle(state["list"])  # no secret


@rows.action
def annotated(state: Any, *, text: str) -> None:
    state["note"] = text


store = Store([tick, many, room, big, rows, *(chat := Chat(model=DemoModel())).slices])
app = create_app(store, max_subscribers=20_000)
chat.setup(app)


async def crowd(_: web.Application) -> AsyncIterator[None]:
    names = [str(number) for number in range(INSTANCES)]
    for begin in range(0, len(names), 1_000):
        await store.dispatch([touched(name) for name in names[begin : begin + 1_000]])
    await store.dispatch(filled(size=100_000))
    yield


app.cleanup_ctx.append(crowd)
