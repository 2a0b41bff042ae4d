"""The progress of a measurement: a bar on a terminal, a line for each phase elsewhere.

Invariants: on stderr only, so that stdout contains nothing but the report.
"""

from __future__ import annotations

import sys
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class ProgressDisplay(Protocol):
    """Shows how far the measurement is."""

    def phase(self, name: str, total: float) -> None:
        """A phase begins, which is complete at `total`."""

    def at(self, done: float, note: str = "") -> None:
        """The phase has reached `done`."""


class ProgressBar:
    """A bar, shown inside `with`."""

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


class ProgressLines:
    """One line when a phase begins, for a stderr that is not a terminal."""

    def phase(self, name: str, total: float) -> None:
        print(name, file=sys.stderr, flush=True)  # noqa: T201

    def at(self, done: float, note: str = "") -> None:
        """A log needs no intermediate steps."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to close."""


def progress_display() -> ProgressBar | ProgressLines:
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()
