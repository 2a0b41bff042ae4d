"""What the benchmarks share: the machine, timing, interleaved rounds, tables.

Invariants: rounds are interleaved, every variant once in each, so that a machine that slows down slows all of
them down; what is compared is the median, and a ratio is the median of each round's own ratio.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from statestream.tools.console.serving import loop_factory

T = TypeVar("T")
TICKS: Final = os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """CPU, cores, Python, event loop and system, as a line."""
    system = f"{platform.system()} {platform.release()}"
    return f"{_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, {loop_name()}, {system}"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs it on the loop that `statestream serve` would take."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(coroutine)


def loop_name() -> str:
    return "uvloop" if loop_factory() else "asyncio"


def seconds_each(run: Callable[[], object], times: int) -> float:
    """The mean seconds of a call, over `times` calls, without the collector in between."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(times):
            run()
        return (time.perf_counter() - start) / times
    finally:
        gc.enable()


def busy_seconds() -> float:
    """What all cores together have spent on anything at all since the system started; 0 where nobody says."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, stat.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / TICKS


class Others:
    """What other processes than this one and its ended children do while a benchmark runs."""

    def __init__(self) -> None:
        self._wall, self._busy, self._own = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.perf_counter(), busy_seconds(), sum(os.times()[:4])

    def percent(self) -> float:
        """Of one core, since this was made. More than a few percent: measure again."""
        wall, busy, own = self._now()
        return max(0.0, (busy - self._busy - own + self._own) / (wall - self._wall) * 100)


def calls_in(run: Callable[[], object], seconds: float) -> int:
    """How many calls take about `seconds`; at least one, and that one warms it up."""
    start = time.perf_counter()
    run()
    once = time.perf_counter() - start
    return max(1, min(10_000, int(seconds / once)))


def interleaved(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each variant's figures, one a round. The order turns from round to round."""
    figures: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            figures[name].append(variants[name]())
    return figures


def median(figures: Sequence[float]) -> float:
    return statistics.median(figures)


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def percentile(figures: Sequence[float], percent: float) -> float:
    """The smallest figure that at least so many percent of them do not exceed."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a Markdown table whose columns line up."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |", flush=True)


def short(figure: float) -> str:
    """Three digits that matter: 0.123, 12.3, 1,230."""
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2 if figure >= 1 else 3
    return f"{figure:,.{digits}f}"
