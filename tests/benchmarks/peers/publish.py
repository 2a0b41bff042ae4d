"""`python -m tests.benchmarks.peers.publish [docs]`: from the raw figures to the kept results, the page and the plots.

Invariants: of each scenario its newest run is taken, whole, or what was kept before; nothing is typed in by hand. The
page is what stands between the two marks in docs/benchmarks.md.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.peers import main, plots

DOCS: Final = main.rig.ROOT / "docs"
BEGIN: Final = "<!-- peers: what follows is made by python -m tests.benchmarks.peers.publish -->"
END: Final = "<!-- /peers -->"
DIGITS: Final = 4

Results = dict[str, dict[str, Any]]
"""Of each scenario: when, on what machine, and each server's figures, a list of rounds each."""


def newest(raw: Path) -> Results:
    """The newest run of each scenario."""
    results: Results = {}
    for text in raw.read_text().splitlines():
        record = json.loads(text)
        run = results.get(record["scenario"])
        if run is None or run["run"] != record["run"]:
            run = results[record["scenario"]] = {"run": record["run"], "machine": record["machine"], "servers": {}}
        figures = run["servers"].setdefault(record["server"], {})
        for name, value in record["figures"].items():
            figures.setdefault(name, []).append(float(f"{value:.{DIGITS}g}"))
    return results


def page(results: Results) -> str:
    """The Markdown of all scenarios, in the order in which they are defined."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        for name in main.EVERY:
            if name in results:
                section(name, results[name])
    return text.getvalue()


def section(name: str, run: dict[str, Any]) -> None:
    scenario, servers = main.EVERY[name], complete(run["servers"])
    rounds = max(len(each) for of in servers.values() for each in of.values())
    day = datetime.fromtimestamp(run["run"], UTC).date()
    print(f"### {name}\n\n{scenario.title}. Medians of {rounds} interleaved rounds on {day}; {run['machine']}.\n")
    for plot in plots.PLOTS:
        if plot.scenario == name:
            print(f"![{plot.title}](images/{plot.file}.svg)\n")
    main.show(scenario, servers)
    print()


def complete(servers: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """Without those that were unfit in some round."""
    most = max(len(each) for of in servers.values() for each in of.values())
    return {name: of for name, of in servers.items() if all(len(each) == most for each in of.values())}


def publish(raw: Path, docs: Path) -> None:
    kept = docs / "benchmarks" / "results.json"
    before_this: Results = json.loads(kept.read_text()) if kept.exists() else {}
    results = before_this | newest(raw)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(as_text(results))
    (docs / "images").mkdir(exist_ok=True)
    for plot in plots.PLOTS:
        if plot.scenario in results:
            plots.draw(plot, complete(results[plot.scenario]["servers"]), docs / "images")
    written = docs / "benchmarks.md"
    before, _, rest = written.read_text().partition(BEGIN)
    written.write_text(f"{before}{BEGIN}\n\n{page(results)}{END}{rest.partition(END)[2]}")


def as_text(results: Results) -> str:
    """JSON with a line for each server's figure, so that a new run reads well in a diff."""
    return re.sub(r"\[[^]]*\]", lambda found: " ".join(found[0].split()), json.dumps(results, indent=1)) + "\n"


if __name__ == "__main__":
    words: Sequence[str] = sys.argv[1:]
    publish(main.RAW, Path(words[0]) if words else DOCS)
