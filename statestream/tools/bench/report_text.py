"""The report as text: at most 80 columns, the same with and without a terminal.

Invariants: pure. It rounds and phrases; it computes nothing, and leaves out only what is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

LABEL_WIDTH: Final = 12
COLUMN_WIDTH: Final = 12
LEAST_BYTES: Final = 500
"""A reader costs more than that. If the server grew by less, it reused memory that was free before."""
TOO_BUSY: Final = 85.0
MAX_PIDS: Final = 4


def text(report: Mapping[str, Any]) -> str:
    lines = [*_head(report), "", *_joining(report)]
    if report["action"] is not None:
        lines += [*_deliveries(report), "", *_latency(report), ""]
    else:
        lines += _quiet(report)
    return "\n".join([*lines, *_health(report), "", *_server(report["server"]), *_load(report)])


def _row(label: str, rest: str) -> str:
    return f"{label:<{LABEL_WIDTH}}{rest}"


def _head(report: Mapping[str, Any]) -> list[str]:
    slices = report["slices"] or "every plain slice"
    lines = [f"{report['readers']:,} readers of {slices} in {count(report['processes'], 'process', 'es')}"]
    if report["action"] is not None:
        lines.append(f"{report['action']} {short(report['rate'])} times per second")
    return [report["url"], *lines]


def _joining(report: Mapping[str, Any]) -> list[str]:
    joining = report["joining"]
    rest = f"{short(joining['seconds'])} s in all, {short(joining['per_second'])}/s"
    return [_row("joining", f"{rest}; each: p50 {ms(joining['p50_ms'])}, p99 {ms(joining['p99_ms'])}")]


def _deliveries(report: Mapping[str, Any]) -> list[str]:
    deliveries, changes = report["deliveries"], report["changes"]
    lines = [_row("changes", f"{changes['accepted']:,} accepted in {short(report['seconds'])} s")]
    if changes["unseen"]:
        lines.append(_row("", f"{changes['unseen']:,} of them changed no slice that is followed"))
    lines += [_row("", f"{times:,} not accepted: {why}") for why, times in changes["errors"].items()]
    lines.append(_row("delivered", f"{deliveries['delivered']:,} of {deliveries['owed']:,}"))
    lines += [
        _row("", f"{deliveries[name]:,} {words}")
        for name, words in (
            ("resynced", "came within a resync"),
            ("lost", "were not: the reader had lost its stream"),
            ("undelivered", "had not come when the waiting ended"),
        )
        if deliveries[name]
    ]
    lines.append(_row("", f"{short(deliveries['per_second'])} per second, {size(report['bytes_per_second'])}/s"))
    if report["bytes_per_update"] is not None:
        lines.append(_row("", f"{short(report['bytes_per_update'])} bytes per event"))
    if report["updates"] != deliveries["delivered"]:
        lines.append(_row("", f"{report['updates']:,} events: changes of several slices, or of other clients"))
    return lines


def _quiet(report: Mapping[str, Any]) -> list[str]:
    heartbeats, updates = count(report["heartbeats"], "heartbeat"), count(report["updates"], "update")
    return [_row("then", f"{heartbeats}, {updates}, {size(report['bytes'])} in {short(report['seconds'])} s")]


def _latency(report: Mapping[str, Any]) -> list[str]:
    quantiles = ("p50", "p99", "p99_9", "max")
    head = "".join(f"{name.replace('_', '.'):>{COLUMN_WIDTH}}" for name in quantiles)
    lines = [f"{'from due time':<{LABEL_WIDTH + 4}}{head}"]
    for name, words in (("reader", "to each reader"), ("last_reader", "to the last"), ("answer", "to the answer")):
        times = report["latency"][name]
        columns = "".join(f"{ms(times[f'{quantile}_ms']):>{COLUMN_WIDTH}}" for quantile in quantiles)
        lines.append(f"{words:<{LABEL_WIDTH + 4}}{columns}")
    return lines


def _health(report: Mapping[str, Any]) -> list[str]:
    gaps, resyncs, lost = report["gaps"], report["resyncs"], report["disconnects"]
    wrong = [f"{times:,} {name}" for name, times in gaps.items() if times]
    again = [f"{times:,} state.{name}" for name, times in resyncs.items() if times]
    return [
        _row("gaps", ", ".join(wrong) or "0"),
        _row("resyncs", ", ".join(again) or "0"),
        _row("disconnects", f"{lost['count']:,}"),
        *(_row("", f"{times:,} {why}") for why, times in lost["reasons"].items()),
    ]


def _server(server: Mapping[str, Any]) -> list[str]:
    if "pids" not in server:
        return [_row("server", f"memory and CPU unknown: {server['unknown']}")]
    pids = ", ".join(map(str, server["pids"][:MAX_PIDS])) + (" …" if len(server["pids"]) > MAX_PIDS else "")
    lines = [
        _row("server", f"{server['name']}, pid {pids}"),
        _row(
            "memory",
            f"{size(server['rss_before'])} before, {size(server['rss_idle'])} with idle readers: "
            f"{size(server['rss_per_reader'])} a reader",
        ),
    ]
    if server["rss_per_reader"] < LEAST_BYTES:
        lines.append(_row("", "it reused free memory: measure memory on a fresh server"))
    if "cpu_percent" not in server:
        return [*lines, _row("CPU", f"unknown: {server['unknown']}")]
    each = server["cpu_us_per_delivery"]
    rest = "" if each is None else f", {short(each)} µs a delivery"
    return [*lines, _row("CPU", f"{short(server['cpu_percent'])} % of a core{rest}")]


def _load(report: Mapping[str, Any]) -> list[str]:
    load = report["load"]
    busiest, machine, late = load["busiest_percent"], load["machine_percent"], load["late"]
    rest = "" if machine is None else f"; all cores {short(machine)} % busy"
    lines = [_row("this load", f"{short(busiest)} % of a core in its busiest process{rest}")]
    if late["p99_ms"] is not None:
        lines.append(_row("", f"changes were sent late by p50 {ms(late['p50_ms'])}, p99 {ms(late['p99_ms'])}"))
    if busiest > TOO_BUSY or (machine or 0) > TOO_BUSY:
        lines.append(_row("", "too busy: the latencies are this machine's, not only the server's"))
    return lines


def count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def short(figure: float) -> str:
    """Three significant digits: 0.123, 12.3, 1,230."""
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2 if figure >= 1 else 3
    return f"{figure:,.{digits}f}"


def ms(figure: float | None) -> str:
    return "–" if figure is None else f"{short(figure)} ms"


def size(figure: float) -> str:
    """Bytes in a unit that leaves few digits."""
    for unit in ("B", "kB", "MB"):
        if abs(figure) < 1_000:
            return f"{figure:.0f} B" if unit == "B" else f"{figure:.1f} {unit}"
        figure /= 1_000
    return f"{figure:.1f} GB"
