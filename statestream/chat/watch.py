"""Who waits for which slice: one listener of the bus for all viewers, found by the slice's name.

Law: a change costs the viewers of its own slice, however many there are of others. A viewer is woken, and told whose
bell it was at the most: what is new it reads from the committed state.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence

from statestream.bus import Why
from statestream.change import Change


class Bell(asyncio.Event):
    """Rings for the slices of one viewer, and remembers for which it has rung."""

    def __init__(self) -> None:
        super().__init__()
        self._names: set[str] | None = set()

    def ring(self, name: str | None) -> None:
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


class Watch:
    """A listener of the bus. `with watch.on(names) as bell: await bell.wait(); bell.clear()`."""

    def __init__(self) -> None:
        self._bells: dict[str, set[Bell]] = {}
        self._everybody: set[Bell] = set()
        self.closed = False

    @contextlib.contextmanager
    def on(self, names: Iterable[str]) -> Iterator[Bell]:
        """A bell that rings when one of these slices has changed, at a reset, and when all are to go.

        `room/*` stands for all rooms, `*` for everything.
        """
        bell = Bell()
        self._everybody.add(bell)
        try:
            with self.also(names, bell):
                yield bell
        finally:
            self._everybody.discard(bell)

    @contextlib.contextmanager
    def also(self, names: Iterable[str], bell: Bell) -> Iterator[None]:
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
            family = f"{change.slice.partition('/')[0]}/*" if "/" in change.slice else ""
            for name in (change.slice, family, "*"):
                for bell in self._bells.get(name, ()):
                    bell.ring(change.slice)

    def reset(self, why: Why) -> None:
        self._ring_all()

    def _ring_all(self) -> None:
        for bell in self._everybody:
            bell.ring(None)
