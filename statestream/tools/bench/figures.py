"""From what everybody counted to one answer: plain data, the shape that `--json` prints.

Invariants: pure. A change that was accepted is owed to every reader. It came as an update; or within a new state or
a catch-up (a resync); or the reader was lost before; or it had not got so far when the waiting ended. What is left
was skipped: it is missing, and that is the one thing that must never be.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from statestream.tools.bench.dispatcher import Answers
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.tally import Tally

QUANTILES = (("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999), ("max", 1.0))


class Setting(Struct, frozen=True, kw_only=True):
    """What was asked for."""

    url: str
    slices: str | None
    readers: int
    processes: int
    action: str | None
    rate: float
    seconds: float


class Server(Struct, frozen=True, kw_only=True):
    """What its process used; None where that cannot be known, and `unknown` says why."""

    pids: Sequence[int] = ()
    name: str | None = None
    rss_before: int | None = None
    rss_idle: int | None = None
    cpu_seconds: float | None = None
    unknown: str | None = None


class Window(Struct, frozen=True, kw_only=True):
    """The time that counts: `seconds` from the first change's time to the last delivery, or those of the wait."""

    answers: Answers
    tally: Tally
    seconds: float
    machine_percent: float | None


class Settled(Struct, frozen=True, kw_only=True):
    """What became of every delivery that was owed."""

    owed: int
    resynced: int
    lost: int
    undelivered: int
    missing: int


def settle(seqs: Mapping[int, int], tally: Tally, readers: int) -> Settled:
    """`seqs`: where each accepted change is in the history."""
    ordered = sorted(seqs.values())

    def within(since: int, to: int) -> int:
        return bisect_right(ordered, to) - bisect_right(ordered, since)

    end = ordered[-1] if ordered else 0
    owed = len(seqs) * readers
    resynced = sum(within(*span) * times for span, times in tally.counts.resyncs.items())
    lost = sum(within(cursor, end) * times for cursor, times in tally.left.items() if cursor < end)
    undelivered = sum(within(cursor, end) * times for cursor, times in tally.behind.items() if cursor < end)
    delivered = sum(tally.delivered[number] for number in seqs)
    missing = owed - delivered - resynced - lost - undelivered
    return Settled(owed=owed, resynced=resynced, lost=lost, undelivered=undelivered, missing=max(0, missing))


def figures(
    setting: Setting, joining: Histogram, joined_seconds: float, window: Window, server: Server
) -> dict[str, Any]:
    answers, tally, wall = window.answers, window.tally, window.seconds
    settled = settle(answers.seqs, tally, setting.readers)
    delivered, counts = tally.latency.count, tally.counts
    last = Histogram()
    for number in answers.seqs:
        if tally.delivered[number] == setting.readers:
            last.add(tally.last[number])
    found: dict[str, Any] = {
        "url": setting.url,
        "slices": setting.slices,
        "readers": setting.readers,
        "processes": setting.processes,
        "action": setting.action,
        "rate": setting.rate,
        "seconds": wall,
        "joining": {"seconds": joined_seconds, "per_second": setting.readers / joined_seconds, **_times(joining)},
        "changes": {
            "accepted": answers.accepted,
            "unseen": answers.unseen,
            "errors": dict(answers.errors),
        },
        "deliveries": {
            "owed": settled.owed,
            "delivered": delivered,
            "resynced": settled.resynced,
            "lost": settled.lost,
            "undelivered": settled.undelivered,
            "per_second": delivered / wall,
        },
        "latency": {"reader": _times(tally.latency), "last_reader": _times(last), "answer": _times(answers.latency)},
        "gaps": {"missing": settled.missing, "repeated": counts.repeated, "breaks": counts.breaks},
        "resyncs": {"initial": counts.initials, "catchup": counts.catchups},
        "disconnects": {"count": tally.lost.total(), "reasons": dict(tally.lost)},
        "heartbeats": counts.heartbeats,
        "updates": counts.updates,
        "bytes": tally.bytes,
        "bytes_per_second": tally.bytes / wall,
        "bytes_per_update": tally.bytes / counts.updates if counts.updates else None,
        "server": _server(server, setting.readers, delivered, wall),
        "load": {
            "busiest_percent": tally.busy * 100,
            "machine_percent": window.machine_percent,
            "late": _times(answers.late),
        },
    }
    return found | {"problems": problems(found)}


def _times(histogram: Histogram) -> dict[str, float | None]:
    """In ms; the histogram is in µs."""
    found = {name: histogram.quantile(share) for name, share in QUANTILES}
    return {f"{name}_ms": None if us is None else us / 1_000 for name, us in found.items()}


def _server(server: Server, readers: int, delivered: int, wall: float) -> dict[str, Any]:
    if server.unknown is not None or server.rss_before is None or server.rss_idle is None:
        return {"unknown": server.unknown}
    found: dict[str, Any] = {
        "pids": list(server.pids),
        "name": server.name,
        "rss_before": server.rss_before,
        "rss_idle": server.rss_idle,
        "rss_per_reader": (server.rss_idle - server.rss_before) / readers,
    }
    if server.cpu_seconds is not None:
        found["cpu_percent"] = server.cpu_seconds / wall * 100
        found["cpu_us_per_delivery"] = server.cpu_seconds * 1e6 / delivered if delivered else None
    return found


def problems(found: Mapping[str, Any]) -> list[str]:
    """What must not be, a sentence each; none: the run was good."""
    gaps, deliveries, errors = found["gaps"], found["deliveries"], found["changes"]["errors"]
    lost, undelivered = found["disconnects"]["count"], deliveries["undelivered"]
    said = [
        (gaps["missing"], f"deliveries that are missing, though readers got what came later: {gaps['missing']:,}"),
        (gaps["repeated"], f"updates that came again: {gaps['repeated']:,}"),
        (gaps["breaks"], f"updates that did not continue what the reader held: {gaps['breaks']:,}"),
        (undelivered, f"deliveries that had not been made when the waiting ended: {undelivered:,}"),
        (lost, f"readers that lost their stream: {lost:,} of {found['readers']:,}"),
        (errors, f"changes that were not accepted: {sum(errors.values()):,}"),
    ]
    return [sentence for wrong, sentence in said if wrong]
