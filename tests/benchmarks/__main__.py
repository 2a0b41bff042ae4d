"""`python -m tests.benchmarks` runs all of them, `python -m tests.benchmarks action reply` these two."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks import action, fanout, journal, reply
from tests.benchmarks.measure import Others, machine

BENCHMARKS: dict[str, Callable[[], None]] = {
    "action": action.main,
    "journal": journal.main,
    "fanout": fanout.main,
    "reply": reply.main,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"expected names out of {', '.join(BENCHMARKS)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    print(machine())
    for name in names or BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        others = Others()
        BENCHMARKS[name]()
        print(f"\nOther processes used {others.percent():.0f} % of a core meanwhile.", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
