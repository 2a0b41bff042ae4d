"""Who waits for which slice: one listener of the bus for all viewers, found by the slice's name.

Law: a change costs the viewers of its own slice, however many there are of others. A viewer is woken, never told:
what is new it reads from the committed state.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence

from statestream.bus import Why
from statestream.change import Change


class Watch:
    """A listener of the bus. `with watch.on(names) as bell: await bell.wait(); bell.clear()`."""

    def __init__(self) -> None:
        self._bells: dict[str, set[asyncio.Event]] = {}
        self._everybody: set[asyncio.Event] = set()
        self.closed = False

    @contextlib.contextmanager
    def on(self, names: Iterable[str]) -> Iterator[asyncio.Event]:
        """A bell that rings when one of these slices has changed, at a reset, and when all are to go."""
        bell = asyncio.Event()
        self._everybody.add(bell)
        try:
            with self.also(names, bell):
                yield bell
        finally:
            self._everybody.discard(bell)

    @contextlib.contextmanager
    def also(self, names: Iterable[str], bell: asyncio.Event) -> Iterator[None]:
        """From now on a bell of `on` rings for these slices too, which it did not before."""
        kept = tuple(names)
        for name in kept:
            self._bells.setdefault(name, set()).add(bell)
        try:
            yield
        finally:
            for name in kept:
                bells = self._bells.get(name, set())
                bells.discard(bell)
                if not bells:
                    self._bells.pop(name, None)

    def close(self) -> None:
        """Everybody is told to go: `closed` is true from now on."""
        self.closed = True
        self._ring_all()

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            for bell in self._bells.get(change.slice, ()):
                bell.set()

    def reset(self, why: Why) -> None:
        self._ring_all()

    def _ring_all(self) -> None:
        for bell in self._everybody:
            bell.set()
