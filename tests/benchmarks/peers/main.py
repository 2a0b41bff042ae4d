"""`python -m tests.benchmarks peers [scenario …] [--rounds N] [--only name,…] [--readers N]`.

Invariants: rounds are interleaved, every server once in each, in an order that turns. Each figure is appended to a file
of JSON lines as soon as it is there; a server that is unfit in one round says so and is left out of the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from tests.benchmarks.measure import Others, machine, median, ratio, short, table
from tests.benchmarks.peers import rig, targets
from tests.benchmarks.peers.crowds import CROWDS, crowd
from tests.benchmarks.peers.scenarios import SCENARIOS, Figures, Scenario
from tests.benchmarks.peers.servers import ALL, BUILT

EVERY: Final[Mapping[str, Scenario]] = {**SCENARIOS, **CROWDS}
RAW: Final = BUILT / "raw.jsonl"


def arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks peers", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", metavar="scenario", help=f"out of {', '.join(EVERY)}; all if none is named"
    )
    parser.add_argument("--rounds", type=int, help="instead of the scenario's own number")
    parser.add_argument("--only", help="servers, by comma")
    parser.add_argument("--readers", type=int, help="of `crowd`: instead of as many as there may be")
    given = parser.parse_args(words)
    unknown = [name for name in given.scenarios if name not in EVERY]
    given.only = given.only.split(",") if given.only else list(ALL)
    unknown += [name for name in given.only if name not in ALL]
    if unknown:
        parser.error(f"expected scenarios out of {', '.join(EVERY)} and servers out of {', '.join(ALL)}, got {unknown}")
    return given


def lacking() -> str | None:
    """What stands in the way of measuring at all."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return "Linux and two cores"
    return None if shutil.which("gcc") and shutil.which("taskset") else "gcc and taskset"


def measured(scenario: Scenario, names: Sequence[str], rounds: int) -> Iterator[tuple[str, int, Figures]]:
    """The figures of each server and round, as they come."""
    unfit: set[str] = set()
    for number in range(rounds):
        at = number % len(names)
        for name in [*names[at:], *names[:at]]:
            if name in unfit:
                continue
            try:
                others = Others()
                figures = scenario.measure(ALL[name])
                figures["CPU of others, % of a core"] = others.percent()
                yield name, number, figures
            except (rig.Unfit, OSError) as error:
                unfit.add(name)
                print(f"{name} is left out: {error}", file=sys.stderr, flush=True)


def run(scenario: Scenario, names: Sequence[str], rounds: int, began: int) -> dict[str, dict[str, list[float]]]:
    """All rounds; what came is kept as it comes. `began` tells the records of one run from another's."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    same = {"run": began, "machine": machine(), "scenario": scenario.name}
    with RAW.open("a") as raw:
        for name, number, figures in measured(scenario, names, rounds):
            raw.write(json.dumps({**same, "server": name, "round": number, "figures": figures}) + "\n")
            raw.flush()
            for figure, value in figures.items():
                found[name].setdefault(figure, []).append(value)
    return {name: of for name, of in found.items() if len(of.get(scenario.figure, ())) == rounds}


def show(scenario: Scenario, found: targets.Rounds) -> None:
    """The medians, each server's ratio to the base, and the targets."""
    if not found:
        print("Nothing could be measured.")
        return
    figures = list(next(iter(found.values())))
    base = found.get(scenario.base)
    head = ["server", *figures, f"x {scenario.base}"]
    rows = []
    for name, of in found.items():
        beside = f"x{short(ratio(of[scenario.figure], base[scenario.figure]))}" if base else "–"
        rows.append([name, *(short(median(of[figure])) for figure in figures), beside])
    table(head, rows)
    verdicts = list(targets.judged(scenario.name, found))
    if verdicts:
        print()
        table(["target", "wanted", "got", "verdict"], verdicts)


def main(words: Sequence[str] = ()) -> int:
    given = arguments(words)
    if missing := lacking():
        print(f"needs {missing}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    signal.signal(signal.SIGINT, signal.default_int_handler)
    most = rig.raise_limits()
    rig.build()
    os.sched_setaffinity(0, {int(rig.LOAD_CORE)})
    print(f"{machine()}; at most {most:,} open files a process")
    began = int(time.time())
    for name in given.scenarios or EVERY:
        scenario = EVERY[name]
        if given.readers and name == "crowd":
            scenario = replace(scenario, measure=partial(crowd, readers=given.readers))
        rounds = given.rounds or scenario.rounds
        print(f"\n### {name}\n\n{scenario.title}; medians of {rounds} interleaved rounds.\n", flush=True)
        able = [server for server in scenario.servers if server in given.only and fit(server)]
        show(scenario, run(scenario, able, rounds, began))
    return 0


def fit(name: str) -> bool:
    missing = ALL[name].missing()
    if missing:
        print(f"{name} is left out: it needs {missing}", file=sys.stderr)
    return not missing
