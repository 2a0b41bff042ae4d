"""For how long a Redis server does nothing else: the scripts of a Redis journal, by its slow log.

A script runs as a whole, and so does a plain command, so a server that several stores share serves nobody else in the
meantime. The slow log has the time of the command alone, without the flush and the network. The first table has the
append, by the number of changes in a batch and by their size, beside as many bare XADDs of the same size. The
second has every script that a store runs while a hundred callers dispatch, checkpoints included.
"""

from __future__ import annotations

import itertools
import random
from typing import Final

from redis import Redis

from statestream.core.change import START
from statestream.journal.contract import Batch
from statestream.journal.redis import RedisJournal, scripts
from statestream.testing.journals import entry, value
from tests.benchmarks.journal import dispatched
from tests.benchmarks.measure import median, percentile, run, short, table
from tests.support.redis_server import DURABLE, RedisServer

TIMES: Final = 200
KINDS: Final = {
    "1 change of 200 B": (1, 200, False),
    "10 changes of 200 B": (10, 200, False),
    "100 changes of 200 B": (100, 200, False),
    "100 changes of 200 B, ids": (100, 200, True),
    "1 change of 10 kB": (1, 10_000, False),
    "100 changes of 10 kB": (100, 10_000, False),
    "1 change of 100 kB": (1, 100_000, False),
    "1 change of 1 MB": (1, 1_000_000, False),
}
_numbers: Final = itertools.count()


def spent(server: RedisServer, command: bytes) -> dict[bytes, list[float]]:
    """Milliseconds of each call of a command since the slow log was reset, by its first argument."""
    found: dict[bytes, list[float]] = {}
    for _, _, micros, arguments, *_ in server("SLOWLOG", "GET", -1):
        if arguments[0].upper() == command:
            found.setdefault(arguments[1], []).append(micros / 1000)
    return found


async def appended(server: RedisServer, changes: int, size: int, *, with_id: bool) -> list[float]:
    """Milliseconds of each append of so many changes to different slices."""
    journal = RedisJournal(f"{server.url}?namespace=n{next(_numbers)}")
    await journal.open()
    text = random.Random(0).randbytes(size // 2).hex()
    names, read, versions = [f"room/{number}" for number in range(changes)], START, dict[str, int]()
    server("SLOWLOG", "RESET")
    for time in range(_times(changes, size)):
        entries = [entry(value(name, f"{time}{text}"), id=f"{time}-{name}" if with_id else None) for name in names]
        based_on = {name: versions.get(name, 0) for name in names}
        outcomes = await journal.append(Batch(read=read, versions=based_on, entries=entries))
        read = outcomes[-1].position
        versions.update((change.slice, change.version) for outcome in outcomes for change in outcome.changes)
    await journal.close()
    return spent(server, b"EVALSHA")[scripts.APPEND.sha]


def bare(server: RedisServer, changes: int, size: int) -> float:
    """The milliseconds of as many XADDs, by what Redis counts."""
    key, data = f"bare-{next(_numbers)}", random.Random(0).randbytes(size // 2).hex()
    server("CONFIG", "RESETSTAT")
    with Redis(port=server.port, protocol=2) as client:
        for _ in range(_times(changes, size)):
            pipeline = client.pipeline(transaction=False)
            for _ in range(changes):
                pipeline.xadd(key, {"d": data})
            pipeline.execute()
    return changes * float(server("INFO", "commandstats")["cmdstat_xadd"]["usec_per_call"]) / 1000


def _times(changes: int, size: int) -> int:
    return max(10, min(TIMES, 20_000_000 // (changes * size)))


async def everything(server: RedisServer) -> dict[str, list[float]]:
    """Milliseconds of each call of every script while a store serves a hundred callers."""
    names = {each.sha: name for name, each in vars(scripts).items() if isinstance(each, scripts.Script)}
    server("SLOWLOG", "RESET")
    await dispatched(f"{server.url}?namespace=n{next(_numbers)}", 100, with_id=True)
    return {names[sha].lower(): times for sha, times in spent(server, b"EVALSHA").items() if sha in names}


def _row(name: str, times: list[float]) -> list[str]:
    return [name, str(len(times)), short(median(times)), short(percentile(times, 99)), short(max(times))]


def main() -> None:
    with RedisServer(*DURABLE, "--slowlog-log-slower-than", "0", "--slowlog-max-len", "1000000") as server:
        rows = []
        for name, (changes, size, with_id) in KINDS.items():
            times, plain = run(appended(server, changes, size, with_id=with_id)), bare(server, changes, size)
            rows.append([*_row(name, times), short(plain), f"x{short(median(times) / plain)}"])
        table(["append", "calls", "p50, ms", "p99, ms", "maximum, ms", "bare XADDs, ms", "relative"], rows)
        print()
        found = run(everything(server))
        table(["script", "calls", "p50, ms", "p99, ms", "maximum, ms"], [_row(*each) for each in found.items()])
