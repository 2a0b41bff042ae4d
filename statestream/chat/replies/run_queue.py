"""Which runs of a process may work now, and in which order the others begin.

Each person has a queue of their own, and the queues take turns: somebody who asks for many replies delays their own,
not those of others. People without a name count by their chats.

Invariants: no run waits that could work, so a newcomer that may work overtakes nobody who could. A run has one place,
from before it is saved until it has ended, and gives it back once. Nothing here is stored: if the process is lost, its
runs are.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from statestream.chat.settings import Concurrency
from statestream.core.errors import RateLimited, StatestreamError, Unavailable

RETRY_SECONDS: Final = 5.0
"""After how long to ask again, if the queue is full."""
PERSONS_PART: Final = 4
"""One person can have one in so many places in the queue."""
LIMIT: Final = "concurrency"
"""How the metric of refusals calls the limit."""


class Place:
    """The place of one run: whether it works, and a way to wait until it may. `maker` is the model or the agent.

    `waited`: it could not work when it was made, so the chat may say that it waits.
    """

    __slots__ = ("_queue", "_turn", "given_back", "maker", "person", "waited", "who")

    def __init__(self, queue: RunQueue, maker: str, person: str | None, chat: str) -> None:
        self._queue, self.maker, self.person = queue, maker, person
        self.who = (person is not None, person or chat)
        self._turn = asyncio.Event()
        self.given_back = self.waited = False

    @property
    def works(self) -> bool:
        return self._turn.is_set()

    def begin(self) -> None:
        self._turn.set()

    async def turn(self) -> None:
        """Returns when the run may work."""
        await self._turn.wait()

    def give_back(self) -> None:
        """The run has ended, or never was. Repeating it does nothing."""
        self._queue.leave(self)


class RunQueue:
    """The places of one process. `limited` counts the refusals."""

    def __init__(self, limits: Concurrency | None = None, limited: Counter[str] | None = None) -> None:
        self._limits = limits or Concurrency()
        self._limited = Counter[str]() if limited is None else limited
        self._waiting: dict[tuple[bool, str], deque[Place]] = {}
        """The queue of each person, in the order of their turns."""
        self.working = self.queued = 0
        self._of_makers: Counter[str] = Counter()
        self._of_people: Counter[str] = Counter()

    def enter(self, maker: str, person: str | None, chat: str, *, refusable: bool = True) -> Place:
        """A place for a run, which works at once if it may.

        Raises RateLimited if this person has too many runs in the queue, and Unavailable if the queue is full, unless
        the run must not be refused.
        """
        place = Place(self, maker, person, chat)
        if self._may_work(place):
            self._begin(place)
            return place
        if refusable and (refusal := self._refusal(place)) is not None:
            self._limited[LIMIT] += 1  # here, because some protocols answer with an event
            raise refusal
        self._waiting.setdefault(place.who, deque()).append(place)
        self.queued += 1
        place.waited = True
        return place

    def _refusal(self, place: Place) -> StatestreamError | None:
        most = max(1, self._limits.queue // PERSONS_PART)
        if place.person is not None and len(self._waiting.get(place.who, ())) >= most:
            sentence = "You already have as many replies in the queue as you may have. Try again in a moment."
            return RateLimited(sentence, limit=None, retry_after=RETRY_SECONDS)
        if self.queued < self._limits.queue:
            return None
        full = Unavailable("Too many replies are being made. Try again in a moment.")
        full.retry_after = RETRY_SECONDS
        return full

    def _may_work(self, place: Place) -> bool:
        limits = self._limits
        return (
            _is_below(self.working, limits.total)
            and _is_below(self._of_makers[place.maker], limits.per_model)
            and (place.person is None or _is_below(self._of_people[place.person], limits.per_person))
        )

    def _begin(self, place: Place) -> None:
        self._count(place, 1)
        place.begin()

    def _count(self, place: Place, by: int) -> None:
        self.working += by
        self._of_makers[place.maker] += by
        if place.person is not None:
            self._of_people[place.person] += by
        for counts, name in ((self._of_makers, place.maker), (self._of_people, place.person)):
            if name is not None and not counts[name]:
                del counts[name]

    def leave(self, place: Place) -> None:
        """Gives the place back, and lets others begin."""
        if place.given_back:
            return
        place.given_back = True
        if place.works:
            self._count(place, -1)
        else:
            self._remove(place)
        while (following := next(self._able(), None)) is not None:
            self._remove(following)
            if following.who in self._waiting:  # after everybody else
                self._waiting[following.who] = self._waiting.pop(following.who)
            self._begin(following)

    def _able(self) -> Iterator[Place]:
        """The runs that may work now, in the order of turns: of each person the first one."""
        for queue in self._waiting.values():
            if (able := next((place for place in queue if self._may_work(place)), None)) is not None:
                yield able

    def _remove(self, place: Place) -> None:
        queue = self._waiting[place.who]
        queue.remove(place)
        self.queued -= 1
        if not queue:
            del self._waiting[place.who]


def _is_below(count: int, limit: int | None) -> bool:
    return limit is None or count < limit
