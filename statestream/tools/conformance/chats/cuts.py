"""Where clients lose their connections, and when they come back: chosen by a seed.

Invariants: pure. The same seed chooses the same cuts for replies of the same length. Every place in a reply has its
turn before one comes again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from statestream.tools.conformance.chats.reply_under_test import Back

BACK: Final[Sequence[Back]] = ("at once", "at once", "during the reply", "after two others")
LAST: Final[Sequence[Back]] = ("after its end",)
IN_THE_WAIT: Final[Sequence[Back]] = ("while it waited", "while it waited")
IN_A_ROW: Final = 6
"""How often one client is cut at most."""
AWAY_SECONDS: Final = 0.4


class Cut(Struct, frozen=True, kw_only=True):
    """A connection is cut after so many frames, or in the `middle` of the one after them."""

    after: int
    middle: bool
    back: Back
    pause: float

    def __str__(self) -> str:
        place = f"after frame {self.after}" + (" and a part of the next one" if self.middle else "")
        return f"cut {place}, back {self.back}"


class CutChooser:
    """Chooses cuts for the clients of one protocol. `frames` is how many frames the last reply had for it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._places: list[int] = []
        self.frames = 1
        self.waits = False

    def plan(self, most: int) -> list[Cut]:
        """The cuts of one client, at most so many. The first place counts from its beginning, others from a return."""
        number = min(most, self._chance.randint(1, IN_A_ROW))
        last = number - 1
        return [self._cut(self._near() if at else self._place(), last=at == last) for at in range(number)]

    def _cut(self, after: int, *, last: bool) -> Cut:
        when = self._chance.choice([*BACK, *(IN_THE_WAIT if self.waits else ()), *(LAST if last else ())])
        pause = self._chance.uniform(0, AWAY_SECONDS)
        return Cut(after=after, middle=self._chance.random() < 0.5, back=when, pause=pause)

    def _place(self) -> int:
        if not self._places:
            self._places = list(range(self.frames))
            self._chance.shuffle(self._places)
        return min(self._places.pop(), self.frames - 1)

    def _near(self) -> int:
        """A stream that comes back is shorter, because it begins later or says much at once."""
        return self._chance.randrange(1 + self.frames // 10)
