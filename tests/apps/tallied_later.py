"""The application of `tallied.py` in the version that VERSION names, to run several of them side by side.

`1` is what `tallied.py` is. `1 and more` has another slice, and the same shape of what both have. From `2` on a tally
says what it counts, which older code does not know, and in `3` it is as it was.

Invariants: the actions do in all versions what they do in `tallied.py`, of which the verdict knows.
"""

from __future__ import annotations

import os
from typing import Any, Final

from statestream import REMOVED, Slice, Store, create_app
from tests.apps.tallied import EMPTY, total

VERSION: Final = os.environ["VERSION"]
SHAPE: Final = int(VERSION[0])
SAYING: Final = {"of": "actions"}

tally = Slice("tally", initial=EMPTY | SAYING if SHAPE == 2 else EMPTY, keyed=True, version=SHAPE)
slices = [tally, total]


@tally.action
def counted(state: Any, *, id: str) -> None:
    state["count"] += 1
    state["last"] = id


@tally.action
def ended(state: Any, *, id: str) -> Any:
    return REMOVED


if SHAPE > 1:

    @tally.upgrade(2)
    def saying(state: Any) -> None:
        state.update(SAYING)


if SHAPE > 2:

    @tally.upgrade(3)
    def as_it_was(state: Any) -> None:
        del state["of"]


if VERSION.endswith("more"):
    slices.append(Slice("remark", initial={"text": ""}))

store = Store(slices, journal=os.environ["JOURNAL"])
app = create_app(store, heartbeat=1.0, handoff=os.environ.get("HANDOFF") != "0")
