"""What the broadcast counts, for monitoring.

Invariants: numbers that only grow. They are read from outside and change nothing in here.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, get_args

from msgspec import Struct, field

from statestream.broadcast.sink import ENDINGS
from statestream.core.histogram import Histogram
from statestream.protocol.frame_types import EndReason, Reason

OPENED: Final = (*get_args(Reason), "resumed", "earliest")
ENDED: Final = (*get_args(EndReason), *ENDINGS)
LAGGED: Final = ("catchup", "initial")
"""What `Counters` counts by."""


class Counters(Struct, kw_only=True):
    """`began` counts streams by how they opened: `resumed`; `earliest`, if the past had to be read; or the reason of
    their `state.initial`.

    `ended` counts every stream once, by how it ended: with the reason of its `stream.end` if the server sent one; else
    `unread`, if its client read nothing for too long; `lost`, if the kernel closed its connection; `failed`, after an
    error in the server; `polled`, if it was a long poll that has its answer; or `left`, in all other cases. Refused
    streams count as well.

    `lagged` counts slow subscribers by what they received when they read again: `catchup` or `initial`. `deliveries` is
    changes times subscribers. `bytes` counts the bytes sent to live subscribers, without the frames that brought them
    to the head. `writing` has, for each iteration of the loop that wrote changes, the seconds from the oldest of their
    commits until all of them were written.
    """

    began: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    lagged: Counter[str] = field(default_factory=Counter)
    handed_off: int = 0
    deliveries: int = 0
    bytes: int = 0
    writing: Histogram = field(default_factory=Histogram)
