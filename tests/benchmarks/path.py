"""One action end to end: dispatch, draft, memory journal, announcement, the frame that readers are sent.

A list of messages of 316 bytes each, and an action that sets a flag in the middle one. What it costs is processor
time of the whole process, event loop included; nobody reads the frames.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from statestream import Slice, Store
from statestream.core.change import Change
from statestream.core.principal import SERVER
from statestream.protocol import frames
from statestream.store.bus import ResetReason
from tests.benchmarks.action import message
from tests.benchmarks.measure import interleaved, median, ratio, run, short, table

SIZES: Final = (1_000, 10_000, 100_000)
CALLERS: Final = (1, 100)
ACTIONS: Final = {1_000: 10_000, 10_000: 5_000, 100_000: 1_000}
ROUNDS: Final = 3

talk = Slice("talk", initial={"messages": []})


@talk.action
def filled(state: Any, *, size: int) -> None:
    state["messages"] = [message(number) for number in range(size)]


@talk.action
def toggled(state: Any, *, at: int) -> None:
    target = state["messages"][at]
    target["flagged"] = not target["flagged"]


class Encoder:
    """What the hub does with a change before it is written."""

    def __init__(self) -> None:
        self.encoded = 0

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.encoded += len(frames.update(change, full=False))

    def reset(self, why: ResetReason) -> None:
        raise AssertionError(f"nothing resets this store, got {why}")


async def microseconds(size: int, callers: int) -> float:
    """Of processor time an action."""
    encoder = Encoder()
    async with Store([talk]) as store:
        store.view(SERVER).subscribe(encoder)
        await store.dispatch(filled(size=size))

        async def caller() -> None:
            for _ in range(ACTIONS[size] // callers):
                await store.dispatch(toggled(at=size // 2))

        before, start = encoder.encoded, time.process_time()
        await asyncio.gather(*(caller() for _ in range(callers)))
        used = time.process_time() - start
        assert encoder.encoded > before + ACTIONS[size] * 100, "every action has a frame"
    return used / ACTIONS[size] * 1e6


def main() -> None:
    cases = {
        (size, callers): lambda s=size, c=callers: run(microseconds(s, c)) for size in SIZES for callers in CALLERS
    }
    rounds = interleaved({f"{size:,} {callers}": case for (size, callers), case in cases.items()}, ROUNDS)
    print(f"Medians of {ROUNDS} interleaved rounds.\n")
    rows = []
    for size, callers in cases:
        figures, small = rounds[f"{size:,} {callers}"], rounds[f"{SIZES[0]:,} {callers}"]
        rows.append([f"{size:,}", str(callers), short(median(figures)), f"x{short(ratio(figures, small))}"])
    table(["messages", "concurrent callers", "CPU µs per action", f"relative to {SIZES[0]:,}"], rows)
