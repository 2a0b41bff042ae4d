"""From all counters to one report: plain data, in the form that `--json` prints.

Invariants: pure. Each accepted change is owed to every reader. A reader received it as an update; or within a new state
or a catch-up (a resync); or lost its stream before; or was not that far yet when the waiting ended. The rest was
skipped: it is missing, and that must never happen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from statestream.tools.bench.counters import DeliveryCounters
from statestream.tools.bench.dispatcher import DispatchCounters
from statestream.tools.bench.histogram import Histogram

QUANTILES: Final = (("p50", 0.5), ("p99", 0.99), ("p99_9", 0.999), ("max", 1.0))


class Conditions(Struct, frozen=True, kw_only=True):
    """What was requested."""

    url: str
    slices: str | None
    readers: int
    processes: int
    action: str | None
    rate: float
    seconds: float


class ServerUsage(Struct, frozen=True, kw_only=True):
    """What the server's process used. A figure that cannot be known is None, and `unknown` is the reason."""

    pids: Sequence[int] = ()
    name: str | None = None
    rss_before: int | None = None
    rss_idle: int | None = None
    cpu_seconds: float | None = None
    unknown: str | None = None


class Window(Struct, frozen=True, kw_only=True):
    """What was measured in `seconds`: from the first due time to the last delivery, or while the readers listened."""

    dispatches: DispatchCounters
    counters: DeliveryCounters
    seconds: float
    machine_percent: float | None


class Deliveries(Struct, frozen=True, kw_only=True):
    """What became of every delivery that was owed."""

    owed: int
    resynced: int
    lost: int
    undelivered: int
    missing: int

    @classmethod
    def of(cls, seqs: Mapping[int, int], counters: DeliveryCounters, readers: int) -> Deliveries:
        """`seqs` has the seq of each accepted change."""
        ordered = sorted(seqs.values())

        def between(after: int, until: int) -> int:
            return bisect_right(ordered, until) - bisect_right(ordered, after)

        end = ordered[-1] if ordered else 0
        owed = len(seqs) * readers
        resynced = sum(between(*span) * times for span, times in counters.stream.resyncs.items())
        lost = sum(between(cursor, end) * times for cursor, times in counters.left.items() if cursor < end)
        undelivered = sum(between(cursor, end) * times for cursor, times in counters.behind.items() if cursor < end)
        delivered = sum(counters.delivered[number] for number in seqs)
        missing = max(0, owed - delivered - resynced - lost - undelivered)
        return cls(owed=owed, resynced=resynced, lost=lost, undelivered=undelivered, missing=missing)


def make_report(
    conditions: Conditions, joining: Histogram, joined_seconds: float, window: Window, usage: ServerUsage
) -> dict[str, Any]:
    dispatches, counters, wall = window.dispatches, window.counters, window.seconds
    deliveries = Deliveries.of(dispatches.seqs, counters, conditions.readers)
    delivered, stream = counters.latency.count, counters.stream
    report: dict[str, Any] = {
        "url": conditions.url,
        "slices": conditions.slices,
        "readers": conditions.readers,
        "processes": conditions.processes,
        "action": conditions.action,
        "rate": conditions.rate,
        "seconds": wall,
        "joining": {"seconds": joined_seconds, "per_second": conditions.readers / joined_seconds, **_times(joining)},
        "changes": {
            "accepted": dispatches.accepted,
            "unseen": dispatches.unseen,
            "errors": dict(dispatches.errors),
        },
        "deliveries": {
            "owed": deliveries.owed,
            "delivered": delivered,
            "resynced": deliveries.resynced,
            "lost": deliveries.lost,
            "undelivered": deliveries.undelivered,
            "per_second": delivered / wall,
        },
        "latency": {
            "reader": _times(counters.latency),
            "last_reader": _times(_last_deliveries(dispatches, counters, conditions.readers)),
            "answer": _times(dispatches.latency),
        },
        "gaps": {"missing": deliveries.missing, "repeated": stream.repeated, "breaks": stream.breaks},
        "resyncs": {"initial": stream.initials, "catchup": stream.catchups},
        "disconnects": {"count": counters.lost.total(), "reasons": dict(counters.lost)},
        "heartbeats": stream.heartbeats,
        "updates": stream.updates,
        "bytes": counters.bytes,
        "bytes_per_second": counters.bytes / wall,
        "bytes_per_update": counters.bytes / stream.updates if stream.updates else None,
        "server": _server(usage, conditions.readers, delivered, wall),
        "load": {
            "busiest_percent": counters.busy * 100,
            "machine_percent": window.machine_percent,
            "late": _times(dispatches.late),
        },
    }
    return report | {"problems": problems(report)}


def _last_deliveries(dispatches: DispatchCounters, counters: DeliveryCounters, readers: int) -> Histogram:
    """When the last reader had a change, for changes that every reader received."""
    last = Histogram()
    for number in dispatches.seqs:
        if counters.delivered[number] == readers:
            last.add(counters.last[number])
    return last


def _times(histogram: Histogram) -> dict[str, float | None]:
    """Quantiles in ms, from a histogram in µs."""
    found = {name: histogram.quantile(share) for name, share in QUANTILES}
    return {f"{name}_ms": None if us is None else us / 1_000 for name, us in found.items()}


def _server(usage: ServerUsage, readers: int, delivered: int, wall: float) -> dict[str, Any]:
    if usage.unknown is not None or usage.rss_before is None or usage.rss_idle is None:
        return {"unknown": usage.unknown}
    found: dict[str, Any] = {
        "pids": list(usage.pids),
        "name": usage.name,
        "rss_before": usage.rss_before,
        "rss_idle": usage.rss_idle,
        "rss_per_reader": (usage.rss_idle - usage.rss_before) / readers,
    }
    if usage.cpu_seconds is not None:
        found["cpu_percent"] = usage.cpu_seconds / wall * 100
        found["cpu_us_per_delivery"] = usage.cpu_seconds * 1e6 / delivered if delivered else None
    return found


def problems(report: Mapping[str, Any]) -> list[str]:
    """A sentence for each thing that must not happen; none if the run was good."""
    gaps, deliveries, errors = report["gaps"], report["deliveries"], report["changes"]["errors"]
    lost, undelivered = report["disconnects"]["count"], deliveries["undelivered"]
    sentences = [
        (gaps["missing"], f"missing deliveries, although readers received later changes: {gaps['missing']:,}"),
        (gaps["repeated"], f"updates that came again: {gaps['repeated']:,}"),
        (gaps["breaks"], f"updates that did not continue the reader's version: {gaps['breaks']:,}"),
        (undelivered, f"deliveries that had not come when the waiting ended: {undelivered:,}"),
        (lost, f"readers that lost their stream: {lost:,} of {report['readers']:,}"),
        (errors, f"changes that were not accepted: {sum(errors.values()):,}"),
    ]
    return [sentence for wrong, sentence in sentences if wrong]
