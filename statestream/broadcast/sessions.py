"""What people with an identity have open: streams, sockets, requests. They end when their credentials do.

Invariants: one timer for all. `why_not` and `open` are called without an await in between, so nothing that opens while
a revocation arrives is overlooked. Expiries are times of the wall clock; if it jumps, that is noticed within a minute.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final, Literal

from statestream.core.change import Change
from statestream.core.principal import Identity
from statestream.store.bus import ResetReason
from statestream.store.revocations import NAME, is_revoked, key_of
from statestream.store.view import StoreView

LOOK_SECONDS: Final = 60.0
"""How long the timer waits at most."""

SessionEnd = Literal["expired", "revoked"]


class Session:
    """Something that is open. `end` is called at most once, with the reason, and may be replaced."""

    __slots__ = ("end", "identity")

    def __init__(self, identity: Identity, end: Callable[[SessionEnd], None]) -> None:
        self.identity = identity
        self.end: Callable[[SessionEnd], None] | None = end


class Sessions:
    """The open sessions of one node. `view` is the server's own."""

    def __init__(self, view: StoreView) -> None:
        self._view = view
        self._by_key: dict[str, dict[Session, None]] = {}
        self._expiries: list[tuple[float, int, Session]] = []
        self._closed = 0  # sessions in the heap that are over
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None

    def why_not(self, identity: Identity) -> SessionEnd | None:
        """Why credentials are not valid any more; None if they are."""
        if identity.expires is not None and identity.expires <= time.time():
            return "expired"
        return "revoked" if is_revoked(self._view, identity) else None

    def open(self, identity: Identity, end: Callable[[SessionEnd], None]) -> Session:
        """Counts a session. Call `close` when it is over."""
        session = Session(identity, end)
        self._by_key.setdefault(key_of(identity.subject), {})[session] = None
        if identity.expires is not None:
            heapq.heappush(self._expiries, (identity.expires, next(self._numbers), session))
            self._wait()
        return session

    def close(self, session: Session) -> None:
        """Forgets a session. May be called again."""
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
            if is_revoked(self._view, session.identity):
                self._end(session, "revoked")

    def _end(self, session: Session, reason: SessionEnd) -> None:
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
