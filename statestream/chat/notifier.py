"""Who waits for which slice: one listener of the bus for all viewers, found by the slice's name.

Invariants: a change costs the viewers of its own slice, however many there are of others. A viewer is woken, and told
whose bell it was at the most: what is new it reads from the committed state.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence

from statestream.core.change import Change
from statestream.store.bus import Why


class Signal(asyncio.Event):
    """Rings for the slices of one viewer, and remembers for which it has rung."""

    def __init__(self) -> None:
        super().__init__()
        self._names: set[str] | None = set()

    def notify(self, name: str | None) -> None:
        """None: for all of them."""
        if name is None:
            self._names = None
        elif self._names is not None:
            self._names.add(name)
        self.set()

    def names(self) -> set[str] | None:
        """The slices that it has rung for since this was asked last; None where that may be any."""
        names, self._names = self._names, set()
        return names


class Notifier:
    """A listener of the bus. `with watch.on(names) as bell: await bell.wait(); bell.clear()`."""

    def __init__(self) -> None:
        self._signals: dict[str, set[Signal]] = {}
        self._everybody: set[Signal] = set()
        self.closed = False

    @contextlib.contextmanager
    def on(self, names: Iterable[str]) -> Iterator[Signal]:
        """A bell that rings when one of these slices has changed, at a reset, and when all are to go.

        `room/*` stands for all rooms, `*` for everything.
        """
        signal = Signal()
        self._everybody.add(signal)
        try:
            with self.also(names, signal):
                yield signal
        finally:
            self._everybody.discard(signal)

    @contextlib.contextmanager
    def also(self, names: Iterable[str], signal: Signal) -> Iterator[None]:
        """From now on a bell of `on` rings for these slices too, which it did not before."""
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
        """Everybody is told to go: `closed` is true from now on."""
        self.closed = True
        self._notify_all()

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            family = f"{change.slice.partition('/')[0]}/*" if "/" in change.slice else ""
            for name in (change.slice, family, "*"):
                for signal in self._signals.get(name, ()):
                    signal.notify(change.slice)

    def reset(self, why: Why) -> None:
        self._notify_all()

    def _notify_all(self) -> None:
        for signal in self._everybody:
            signal.notify(None)
