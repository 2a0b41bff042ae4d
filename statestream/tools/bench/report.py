"""The figures as text for a terminal: at most 80 columns, the same without one.

Invariants: pure. It rounds and words; it works nothing out and leaves nothing out that is not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = 12
COLUMN = 12
LEAST_BYTES = 500
TOO_BUSY = 85.0


def text(found: Mapping[str, Any]) -> str:
    lines = [*_head(found), "", *_joining(found)]
    if found["action"] is not None:
        lines += [*_deliveries(found), "", *_latency(found), ""]
    else:
        lines += _quiet(found)
    return "\n".join([*lines, *_health(found), "", *_server(found["server"]), *_load(found)])


def _row(name: str, rest: str) -> str:
    return f"{name:<{NAME}}{rest}"


def _head(found: Mapping[str, Any]) -> list[str]:
    slices = found["slices"] or "every plain slice"
    lines = [f"{found['readers']:,} readers of {slices} in {count(found['processes'], 'process', 'es')}"]
    if found["action"] is not None:
        lines.append(f"{found['action']} {short(found['rate'])} times a second")
    return [found["url"], *lines]


def _joining(found: Mapping[str, Any]) -> list[str]:
    joining = found["joining"]
    rest = f"{short(joining['seconds'])} s for all, {short(joining['per_second'])} a second"
    return [_row("joining", f"{rest}; one: p50 {ms(joining['p50_ms'])}, p99 {ms(joining['p99_ms'])}")]


def _deliveries(found: Mapping[str, Any]) -> list[str]:
    deliveries, changes = found["deliveries"], found["changes"]
    lines = [_row("changes", f"{changes['accepted']:,} accepted in {short(found['seconds'])} s")]
    if changes["unseen"]:
        lines.append(_row("", f"{changes['unseen']:,} of them changed nothing that is followed"))
    lines += [_row("", f"{times:,} not accepted: {why}") for why, times in changes["errors"].items()]
    lines.append(_row("delivered", f"{deliveries['delivered']:,} of {deliveries['owed']:,}"))
    lines += [
        _row("", f"{deliveries[name]:,} {words}")
        for name, words in (
            ("resynced", "came within a resync"),
            ("lost", "were not: the reader had lost its stream"),
            ("undelivered", "had not been made when the waiting ended"),
        )
        if deliveries[name]
    ]
    lines.append(_row("", f"{short(deliveries['per_second'])} a second, {size(found['bytes_per_second'])}/s"))
    if found["bytes_per_update"] is not None:
        lines.append(_row("", f"{short(found['bytes_per_update'])} bytes an event"))
    if found["updates"] != deliveries["delivered"]:
        lines.append(_row("", f"{found['updates']:,} events: of several slices for a change, or of others' changes"))
    return lines


def _quiet(found: Mapping[str, Any]) -> list[str]:
    came = f"{count(found['heartbeats'], 'heartbeat')}, {count(found['updates'], 'update')}, {size(found['bytes'])}"
    return [_row("then", f"{came} in {short(found['seconds'])} s")]


def _latency(found: Mapping[str, Any]) -> list[str]:
    names = ("p50", "p99", "p99_9", "max")
    head = "".join(f"{name.replace('_', '.'):>{COLUMN}}" for name in names)
    lines = [f"{'from due time':<{NAME + 4}}{head}"]
    for name, words in (("reader", "to each reader"), ("last_reader", "to the last"), ("answer", "to the answer")):
        times = found["latency"][name]
        lines.append(f"{words:<{NAME + 4}}" + "".join(f"{ms(times[f'{each}_ms']):>{COLUMN}}" for each in names))
    return lines


def _health(found: Mapping[str, Any]) -> list[str]:
    gaps, resyncs, lost = found["gaps"], found["resyncs"], found["disconnects"]
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
    pids = ", ".join(map(str, server["pids"][:4])) + (" …" if len(server["pids"]) > 4 else "")
    lines = [
        _row("server", f"{server['name']}, pid {pids}"),
        _row(
            "memory",
            f"{size(server['rss_before'])} before, {size(server['rss_idle'])} with idle readers: "
            f"{size(server['rss_per_reader'])} a reader",
        ),
    ]
    if server["rss_per_reader"] < LEAST_BYTES:
        lines.append(_row("", "it used what was free from before: measure memory on a fresh server"))
    if "cpu_percent" not in server:
        return [*lines, _row("CPU", f"unknown: {server['unknown']}")]
    each = server["cpu_us_per_delivery"]
    rest = "" if each is None else f", {short(each)} µs a delivery"
    return [*lines, _row("CPU", f"{short(server['cpu_percent'])} % of a core{rest}")]


def _load(found: Mapping[str, Any]) -> list[str]:
    load = found["load"]
    busiest, machine, late = load["busiest_percent"], load["machine_percent"], load["late"]
    rest = "" if machine is None else f"; all cores here {short(machine)} % busy"
    lines = [_row("this load", f"{short(busiest)} % of a core in its busiest process{rest}")]
    if late["p99_ms"] is not None:
        lines.append(_row("", f"changes set out late by p50 {ms(late['p50_ms'])}, p99 {ms(late['p99_ms'])}"))
    if busiest > TOO_BUSY or (machine or 0) > TOO_BUSY:
        lines.append(_row("", "too busy: latencies are this machine's, not the server's alone"))
    return lines


def count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def short(figure: float) -> str:
    """Three digits that matter: 0.123, 12.3, 1,230."""
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2 if figure >= 1 else 3
    return f"{figure:,.{digits}f}"


def ms(figure: float | None) -> str:
    return "–" if figure is None else f"{short(figure)} ms"


def size(figure: float) -> str:
    """Bytes in the unit that leaves few digits."""
    for unit in ("B", "kB", "MB"):
        if abs(figure) < 1_000:
            return f"{figure:.0f} B" if unit == "B" else f"{figure:.1f} {unit}"
        figure /= 1_000
    return f"{figure:.1f} GB"
