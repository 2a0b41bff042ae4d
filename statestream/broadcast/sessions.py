"""What people with an identity have open: streams, sockets, requests. They end when their credentials do.

Streams and sockets are held: one identity, and one address, can hold a limited number of them at a time. Without an
identity, a session exists only to count the address.

Invariants: one timer for all. What is held is given back when its session closes, however it ends. `why_not` and `open`
are called without an await in between, so nothing that opens while a revocation arrives is overlooked. Expiries are
times of the wall clock; if it jumps, that is noticed within a minute.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

from statestream.core.change import Change
from statestream.core.errors import TooManyStreams
from statestream.core.principal import Identity
from statestream.store.bus import ResetReason
from statestream.store.revocations import NAME, WhyNot, is_revoked, key_of, why_not
from statestream.store.view import StoreView

LOOK_SECONDS: Final = 60.0
"""How long the timer waits at most."""
RETRY_SECONDS: Final = 5.0
"""When somebody with too many streams may try again: nobody knows when one of them will end."""


class Session:
    """Something that is open. `end` is called at most once, with the reason, and may be replaced.

    `held` says whether it is counted: for its identity, and for its `address` if it has one.
    """

    __slots__ = ("address", "end", "held", "identity")

    def __init__(self, identity: Identity | None, end: Callable[[WhyNot], None] | None) -> None:
        self.identity = identity
        self.end: Callable[[WhyNot], None] | None = end
        self.held = False
        self.address: str | None = None


class Sessions:
    """The open sessions of one node. `view` is the server's own.

    `per_identity` and `per_address` are how many streams and sockets one of them can hold; None means no limit.
    """

    def __init__(self, view: StoreView, *, per_identity: int | None = None, per_address: int | None = None) -> None:
        self._view, self._per_identity, self._per_address = view, per_identity, per_address
        self._by_key: dict[str, dict[Session, None]] = {}
        self._of_identity: dict[str, int] = {}
        self._of_address: dict[str, int] = {}
        self._expiries: list[tuple[float, int, Session]] = []
        self._closed = 0  # sessions in the heap that are over
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None

    def why_not(self, identity: Identity) -> WhyNot | None:
        """Why credentials are not valid any more; None if they are."""
        return why_not(self._view, identity)

    def open(self, identity: Identity, end: Callable[[WhyNot], None]) -> Session:
        """Counts a session. Call `close` when it is over."""
        session = Session(identity, end)
        self._by_key.setdefault(key_of(identity.subject), {})[session] = None
        if identity.expires is not None:
            heapq.heappush(self._expiries, (identity.expires, next(self._numbers), session))
            self._wait()
        return session

    @property
    def held(self) -> int:
        """The streams and sockets that identities hold now."""
        return sum(self._of_identity.values())

    @property
    def counts_addresses(self) -> bool:
        """Whether there is a limit for an address, so that `hold` must know it."""
        return self._per_address is not None

    def hold(self, session: Session | None, address: str | None) -> Session | None:
        """Counts the stream or socket of a session, or of an address without one. Raises TooManyStreams.

        Returns the session; None if there is nothing to count.
        """
        identity = None if session is None else session.identity
        if identity is not None and _reached(self._of_identity.get(identity.subject, 0), self._per_identity):
            raise _too_many("streams_per_identity", "your login", self._per_identity)
        if not self.counts_addresses or address is None:
            address = None
        elif _reached(self._of_address.get(address, 0), self._per_address):
            raise _too_many("streams_per_address", "your address", self._per_address)
        if session is None and address is None:
            return None
        session = session or Session(None, None)
        session.held, session.address = True, address
        if identity is not None:
            self._of_identity[identity.subject] = self._of_identity.get(identity.subject, 0) + 1
        if address is not None:
            self._of_address[address] = self._of_address.get(address, 0) + 1
        return session

    def _give_back(self, session: Session) -> None:
        if session.held:
            session.held = False
            if session.identity is not None:
                _less(self._of_identity, session.identity.subject)
            if session.address is not None:
                _less(self._of_address, session.address)

    def close(self, session: Session) -> None:
        """Forgets a session. May be called again."""
        self._give_back(session)
        if session.identity is None:
            return
        key = key_of(session.identity.subject)
        found = self._by_key.get(key, {})
        if session not in found:
            return
        session.end = None
        del found[session]
        if not found:
            del self._by_key[key]
        if session.identity.expires is not None:
            self._closed += 1
            self._tidy()

    def __len__(self) -> int:
        return sum(map(len, self._by_key.values()))

    # called by the bus

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.slice.startswith(f"{NAME}/"):
                self._check(change.slice.partition("/")[2])

    def reset(self, reason: ResetReason) -> None:
        for key in tuple(self._by_key):
            self._check(key)

    def _check(self, key: str) -> None:
        for session in tuple(self._by_key.get(key, ())):
            if session.identity is not None and is_revoked(self._view, session.identity):
                self._end(session, "revoked")

    def _end(self, session: Session, reason: WhyNot) -> None:
        end = session.end
        self.close(session)
        if end is not None:
            end(reason)

    # expiries

    def _wait(self) -> None:
        """Sets the timer for the earliest expiry."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._expiries:
            left = min(max(0.0, self._expiries[0][0] - time.time()), LOOK_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(left, self._expire)

    def _expire(self) -> None:
        now = time.time()
        while self._expiries and self._expiries[0][0] <= now:
            _, _, session = heapq.heappop(self._expiries)
            self._closed -= 1  # it was closed before, or is now
            self._end(session, "expired")
        self._wait()

    def _tidy(self) -> None:
        """Sessions that are over stay in the heap until they are most of it."""
        if self._closed > 64 and self._closed > len(self._expiries) // 2:
            self._expiries = [entry for entry in self._expiries if entry[2].end is not None]
            heapq.heapify(self._expiries)
            self._closed = 0

    def stop(self) -> None:
        """Ends the timer."""
        if self._timer is not None:
            self._timer.cancel()


def _reached(count: int, most: int | None) -> bool:
    return most is not None and count >= most


def _less(counts: dict[str, int], key: str) -> None:
    """One less. What is 0 is forgotten."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


def _too_many(limit: str, whose: str, most: int | None) -> TooManyStreams:
    sentence = f"{most} streams and sockets are open for {whose} already; close one, or try again later"
    return TooManyStreams(sentence, limit=limit, retry_after=RETRY_SECONDS)
