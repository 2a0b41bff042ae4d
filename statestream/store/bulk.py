"""A bulk request that runs in portions, while small requests are committed in between.

A thousand cheap actions take some 20 ms, in which nobody else would be served. They take effect together, so they run
in one transaction, which is set aside after each portion.

Invariants: a portion takes PORTION_SECONDS, plus the rest of one action. The outcome is that of a run at once, at the
time of the last portion: if anything was changed that the request has used, it starts over. After RESTARTS of these it
runs at once, so it ends however busy its slices are. Nothing of it is visible to anyone before it is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Final

from statestream.core.change import SliceState
from statestream.core.errors import StatestreamError
from statestream.store import tracing
from statestream.store.loaded import LoadedSlices, NotLoaded
from statestream.store.pending import Pending
from statestream.store.transaction import Transaction

PORTION_SECONDS: Final = 0.005
RESTARTS: Final = 3


class BulkRun:
    """The run of one request. `begin` makes a transaction on the committed state, which `slices` are."""

    def __init__(self, pending: Pending, begin: Callable[[], Transaction], slices: LoadedSlices) -> None:
        self.pending, self._begin, self._slices = pending, begin, slices
        self.transaction: Transaction | None = None
        """Contains the whole request once it has run; None if it must run at once."""
        self._used: dict[str, tuple[int, SliceState | None]] = {}
        self._ran = 0
        self._restarts = 0
        self._began = 0

    def advance(self) -> bool:
        """Runs a portion. Returns whether the request has run, or must run at once."""
        pending = self.pending
        if self.transaction is not None and self._is_outdated():
            self._restarts += 1
            self.transaction = None
            if self._restarts > RESTARTS:
                return True
        try:
            over = self._advance()
        except NotLoaded:
            self.transaction = None
            return True
        except StatestreamError as error:
            pending.error, over = error, True
        if over and pending.span is not None:
            pending.span.part("statestream.handlers", self._began, tracing.now())
        return over

    def _advance(self) -> bool:
        until, request = perf_counter() + PORTION_SECONDS, self.pending.request
        if self.transaction is None:
            self.pending.changes, self.pending.error, self._ran = [], None, 0
            self._began = 0 if self.pending.span is None else tracing.now()
            self.transaction = self._begin()
            self.transaction.begin(request)
        else:
            self.transaction.resume()
        while self._ran < len(request.actions):
            if perf_counter() > until:
                self._used = {name: self._now(name) for name in self.transaction.used(request)}
                return False
            self.pending.changes += self.transaction.part(request, self._ran, self._ran + 1)
            self._ran += 1
        self.transaction.end(request, self.pending.changes)
        return True

    def _now(self, name: str) -> tuple[int, SliceState | None]:
        """Stands for the committed value of a slice, and is another one whenever it changes."""
        return self._slices.version(name), self._slices.peek(name)

    def _is_outdated(self) -> bool:
        for name, (version, state) in self._used.items():
            now, there = self._now(name)
            if now != version or there is not state:
                return True
        return False
