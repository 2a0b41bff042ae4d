"""The application of the proofs under failures: tallies whose values tell which action made them.

A tally counts, and names the last action that was counted. So whoever has a value knows of how many actions it is the
result, and an action that took effect twice, at a wrong place or not at all shows in every value after it. `about` is
long, so that a patch is shorter than a value.

A file that AHEAD names moves the wall clock, see `moved_clock`. JOURNAL is the journal.
"""

from __future__ import annotations

import os
from typing import Any, Final

from statestream import REMOVED, Slice, Store, create_app
from tests.support import moved_clock

EMPTY: Final = {"count": 0, "last": "", "about": "a tally of the actions that were counted here " * 4}

if "AHEAD" in os.environ:
    moved_clock.follow(os.environ["AHEAD"])

tally = Slice("tally", initial=EMPTY, keyed=True)
total = Slice("total", initial=EMPTY)


@tally.action
def counted(state: Any, *, id: str) -> None:
    state["count"] += 1
    state["last"] = id


@tally.action
def ended(state: Any, *, id: str) -> Any:
    """The tally begins anew when it is next counted."""
    return REMOVED


@total.action
def added(state: Any, *, id: str) -> None:
    state["count"] += 1
    state["last"] = id


store = Store([tally, total], journal=os.environ["JOURNAL"])
app = create_app(store, heartbeat=1.0, handoff=os.environ.get("HANDOFF") != "0")
