"""`python -m tests.benchmarks` runs all of them, `python -m tests.benchmarks action reply` these two.

What follows `peers` is for that one: its scenarios and options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.benchmarks import (
    action,
    asgi,
    contention,
    hostile,
    inspector,
    journal,
    makers,
    path,
    postgresql,
    redis,
    reply,
    rights,
    scripts,
    start,
    tokens,
)
from tests.benchmarks.measure import Others, machine
from tests.benchmarks.peers import main as peers

BENCHMARKS: dict[str, Callable[[], None]] = {
    "action": action.main,
    "path": path.main,
    "journal": journal.main,
    "postgresql": postgresql.main,
    "redis": redis.main,
    "scripts": scripts.main,
    "start": start.main,
    "contention": contention.main,
    "reply": reply.main,
    "tokens": tokens.main,
    "makers": makers.main,
    "hostile": hostile.main,
    "rights": rights.main,
    "asgi": asgi.main,
    "inspector": inspector.main,
}


def main(names: list[str]) -> int:
    if names[:1] == ["peers"]:
        return peers.main(names[1:])
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"expected names out of {', '.join(BENCHMARKS)}, peers, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    print(machine())
    for name in names or BENCHMARKS:
        print(f"\n## {name}\n", flush=True)
        others = Others()
        BENCHMARKS[name]()
        print(f"\nMeanwhile, other processes used {others.percent():.0f} % of a core.", flush=True)
    if not names:
        print("\n## peers\n")
        peers.main()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
