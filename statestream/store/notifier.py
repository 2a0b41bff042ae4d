"""Wakes whoever waits for a slice: one listener of the bus for all waiters, found by the slice's name.

Invariants: a change costs the waiters of its own slice, however many wait for others. A waiter learns at most the names
of the slices that changed; it reads from the committed state what is new.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence

from statestream.core.change import Change
from statestream.store.bus import ResetReason


class Signal(asyncio.Event):
    """Is set when a slice of one waiter changes, and remembers which."""

    def __init__(self) -> None:
        super().__init__()
        self._names: set[str] | None = set()

    def notify(self, name: str | None) -> None:
        """None stands for all slices."""
        if name is None:
            self._names = None
        elif self._names is not None:
            self._names.add(name)
        self.set()

    def names(self) -> set[str] | None:
        """The slices that changed since the last call; None if any may have."""
        names, self._names = self._names, set()
        return names


class Notifier:
    """A listener of the bus. `with notifier.on(names) as signal: await signal.wait(); signal.clear()`."""

    def __init__(self) -> None:
        self._signals: dict[str, set[Signal]] = {}
        self._all: set[Signal] = set()
        self.closed = False

    @contextlib.contextmanager
    def on(self, names: Iterable[str]) -> Iterator[Signal]:
        """A signal that is set when one of these slices changes, at a reset, and on `close`.

        `room/*` stands for all rooms, `*` for everything.
        """
        signal = Signal()
        self._all.add(signal)
        try:
            with self.also(names, signal):
                yield signal
        finally:
            self._all.discard(signal)

    @contextlib.contextmanager
    def also(self, names: Iterable[str], signal: Signal) -> Iterator[None]:
        """Adds slices to a signal of `on`."""
        kept = tuple(names)
        for name in kept:
            self._signals.setdefault(name, set()).add(signal)
        try:
            yield
        finally:
            for name in kept:
                signals = self._signals.get(name, set())
                signals.discard(signal)
                if not signals:
                    self._signals.pop(name, None)

    def close(self) -> None:
        """Tells every waiter to leave: `closed` is true from now on."""
        self.closed = True
        self._notify_all()

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            family = f"{change.slice.partition('/')[0]}/*" if "/" in change.slice else ""
            for name in (change.slice, family, "*"):
                for signal in self._signals.get(name, ()):
                    signal.notify(change.slice)

    def reset(self, reason: ResetReason) -> None:
        self._notify_all()

    def _notify_all(self) -> None:
        for signal in self._all:
            signal.notify(None)
