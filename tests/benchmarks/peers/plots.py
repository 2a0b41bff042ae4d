"""The plots of docs/benchmarks.md, made from the kept results by matplotlib.

Invariants: a plot shows medians that the page's tables have. Bars with their values beside them, nothing else; the
background is left out and the greys are in the middle, so that they read on a white page and on a black one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

from tests.benchmarks.measure import median, short
from tests.benchmarks.peers import crowds, scenarios
from tests.benchmarks.peers.targets import Rounds

OURS: Final = "#2f81f7"
LIMIT: Final = "#8b949e"
THEIRS: Final = "#c08552"
TEXT: Final = "#808890"
STYLE: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "statestream",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": TEXT,
    "ytick.color": TEXT,
    "hatch.color": TEXT,
}
WIDTH_INCHES: Final = 7.2
BAR_INCHES: Final = 0.3
ROOM: Final = 1.18
"""Beyond the longest bar, for its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    file: str
    scenario: str
    figure: str
    title: str
    unit: str
    log: bool = False


PLOTS: Final = (
    Plot(
        file="fanout-events",
        scenario="joined",
        figure=scenarios.EVENTS,
        title="Events per second to 1,000 subscribers from one core (logarithmic)",
        unit="",
        log=True,
    ),
    Plot(
        file="fanout-latency",
        scenario="latency",
        figure=scenarios.P50,
        title="From a change to the last of 1,000 subscribers, median at 20 changes per second (logarithmic)",
        unit=" ms",
        log=True,
    ),
    Plot(
        file="fanout-memory",
        scenario="idle",
        figure=crowds.IDLE_KB,
        title="Server memory per subscriber, with 5,000 idle subscribers",
        unit=" kB",
    ),
    Plot(
        file="fanout-storm",
        scenario="storm",
        figure=crowds.STORM,
        title="2,000 subscribers join at once: time until all have the 200 kB of state",
        unit=" s",
    ),
)


def colour(server: str) -> str:
    return LIMIT if server == "floor" else OURS if server.startswith("statestream") else THEIRS


def label(server: str) -> str:
    return {"floor": "bare C loop"}.get(server, server)


def draw(plot: Plot, rounds: Rounds, folder: Path, kind: str = "svg") -> Path:
    """One file of horizontal bars, from the top in the order of the table."""
    values = {name: median(of[plot.figure]) for name, of in rounds.items()}
    with mpl.rc_context(STYLE):
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(WIDTH_INCHES, 0.5 + BAR_INCHES * len(values)))
        names = list(values)[::-1]
        axes.barh([label(name) for name in names], [values[name] for name in names], color=[*map(colour, names)])
        _limits(axes, values, log=plot.log)
        for row, name in enumerate(names):
            axes.annotate(
                f"{short(values[name])}{plot.unit}",
                (values[name], row),
                (4, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_title(plot.title, loc="left", fontsize=11)
        _bare(axes)
        path = folder / f"{plot.file}.{kind}"
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(path, transparent=True, bbox_inches="tight", metadata=metadata, dpi=120)
        pyplot.close(figure)
    return path


def _limits(axes: Any, values: Mapping[str, float], *, log: bool) -> None:
    most, least = max(values.values()), min(values.values())
    if log:
        axes.set_xscale("log")
        axes.set_xlim(least / 3, most * (most / least) ** (ROOM - 1))
    else:
        axes.set_xlim(0, most * ROOM)


def _bare(axes: Any) -> None:
    for side in axes.spines.values():
        side.set_visible(False)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0)
