"""The work, for the adapters in Python: the state, what a change does to it, and when changes are due.

ITEMS of 100 bytes; change `seq` sets `n` of the last one. TURN changes at most are made before the loop turns.
Every change carries its number, when it was made, and when it was due by an open schedule: a server that is late
makes the missed changes, it does not skip them.
State is immutable: a change makes new objects along its path, so that who compares states may skip what is the same.

Invariants: `workload.mjs` is this file for Node, `floor.c` has the same state and schedule. Change all three.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

PORT: Final = int(os.environ.get("PORT", "8000"))
ITEMS: Final = int(os.environ.get("ITEMS", "20"))
TURN: Final = int(os.environ.get("TURN", "256"))
SLICE: Final = "app"
PAUSE: Final = 0.01
LEAST: Final = 0.001
"""What is due within a millisecond waits for it: loops count in milliseconds, and would spin."""


def item(number: int, n: int = 0) -> dict[str, Any]:
    note = f"item {number} lorem ipsum dolor sit amet consectetur adipi"
    return {"id": f"i{number}", "done": False, "note": note, "n": n}


def initial(items: int = ITEMS) -> dict[str, Any]:
    return {"items": [item(number) for number in range(items)]}


def after(state: Mapping[str, Any], seq: int) -> dict[str, Any]:
    *others, last = state["items"]
    return {"items": [*others, {**last, "n": seq}]}


def stamp(seq: int, due: int) -> dict[str, int]:
    return {"seq": seq, "t": time.monotonic_ns(), "due": due}


def update(seq: int, patches: Any, payload: Any) -> dict[str, Any]:
    """What the peers send for a change; statestream has its own frame of a few bytes more."""
    cause = {"type": "tick", "id": f"a{seq}", "payload": payload}
    return {
        "type": "state.update",
        "slice": SLICE,
        "patches": patches,
        "cause": cause,
        "timestamp": time.time_ns() // 1_000_000,
    }


def snapshot(state: Any) -> dict[str, Any]:
    return {"type": "state.initial", "slices": {SLICE: state}, "timestamp": time.time_ns() // 1_000_000}


class Ticker:
    """Calls `make` with the number and the due time of every change, TURN of them at most before the loop turns."""

    def __init__(self, make: Callable[[list[tuple[int, int]]], Awaitable[None]]) -> None:
        self.make = make
        self.seq, self.rate, self.left, self.due = 0, 0.0, -1, 0
        self.task: asyncio.Task[None] | None = None

    def control(self, query: Mapping[str, str]) -> dict[str, int]:
        """Sets the rate, and how many changes are left to make: without `count`, no end."""
        self.rate = float(query.get("rate", 0))
        self.left = int(query.get("count", 0)) or -1
        self.due = time.monotonic_ns() + (int(1e9 / self.rate) if self.rate else 0)
        self.task = self.task or asyncio.create_task(self.run())
        return {"seq": self.seq}

    async def run(self) -> None:
        while True:
            wait = (self.due - time.monotonic_ns()) / 1e9 if self.rate and self.left else PAUSE
            if wait > 0:
                await asyncio.sleep(max(LEAST, min(wait, PAUSE)))
                continue
            await self.make(self.take())
            await asyncio.sleep(0)

    def take(self) -> list[tuple[int, int]]:
        taken = []
        while self.left and self.due <= time.monotonic_ns() and len(taken) < TURN:
            self.seq += 1
            self.left -= self.left > 0
            taken.append((self.seq, self.due))
            self.due += int(1e9 / self.rate)
        return taken
