"""How far the measurement has come: a bar on a terminal, a line for each phase elsewhere.

Invariants: on stderr only, so that stdout holds nothing but the result.
"""

from __future__ import annotations

import sys
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class Bar:
    """A `Show` for people who look on. `with Bar() as bar:`."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(
            *columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True), transient=True
        )
        self._task: TaskID | None = None

    def phase(self, name: str, total: float) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(name, total=int(total), note="")

    def at(self, done: float, note: str = "") -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=int(done), note=note)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


class Lines:
    """The same where nobody does: each phase is told when it begins."""

    def phase(self, name: str, total: float) -> None:
        print(name, file=sys.stderr, flush=True)  # noqa: T201

    def at(self, done: float, note: str = "") -> None:
        """Nobody looks."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


def watcher() -> Bar | Lines:
    return Bar() if sys.stderr.isatty() else Lines()
