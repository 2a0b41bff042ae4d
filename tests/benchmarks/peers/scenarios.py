"""What is measured, and of which servers: each scenario gives one round's figures of one server.

Here are those with a thousand readers that are there already; `crowds` has those in which readers come, many
are idle, or some are frozen.

Invariants: a round is a new server. A figure that a lost event would make better is not given: Unfit is raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.benchmarks.peers.rig import Load, Running, Unfit
from tests.benchmarks.peers.servers import Server

READERS: Final = 1_000
SMALL: Final = 20
LARGE: Final = 2_000
"""Items of 100 bytes."""

WARM_SECONDS: Final = 1.0
FLOOD_SECONDS: Final = 3.0
SINGLE_FLOOD: Final = 500
CALM_RATE: Final = 20
CALM_SECONDS: Final = 8.0

EVENTS: Final = "events per second"
CPU: Final = "server CPU, µs per event"
BYTES: Final = "bytes per event"
LOAD: Final = "load core, %"
P50: Final = "p50 to the last subscriber, ms"
P99: Final = "p99 to the last subscriber, ms"

LARGE_TO_SMALL: Final = "200 kB to 2 kB"

Figures = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`base` is the server that all others of the scenario are compared with, by `figure`."""

    name: str
    title: str
    servers: tuple[str, ...]
    measure: Callable[[Server], Figures]
    figure: str
    base: str
    rounds: int = 5


def observed(running: Running, load: Load, seconds: float) -> dict[str, Any]:
    """A window, with the server's CPU seconds in it. Raises Unfit if an event was lost or came twice."""
    before = running.cpu_seconds()
    said = load.window(seconds)
    said["server_cpu"] = running.cpu_seconds() - before
    if not said["events"]:
        raise Unfit(f"expected {running.server.name} to send events, none came in {seconds:g} s")
    wrong = {name: said[name] for name in ("gaps", "repeats", "lost", "failed") if said[name]}
    if wrong:
        raise Unfit(f"expected every event once from {running.server.name}, got {wrong}")
    return said


def flooded(server: Server, *, items: int = SMALL, one_a_turn: bool = False) -> Figures:
    """More changes are due than it can bring to everyone: how many events does it bring?"""
    with Running(server, ITEMS=items, TURN=1 if one_a_turn else server.turn) as running, Load(running, READERS) as load:
        load.joined()
        running.control(min(server.flood, SINGLE_FLOOD) if one_a_turn else server.flood)
        time.sleep(WARM_SECONDS)
        said = observed(running, load, FLOOD_SECONDS)
    return {
        EVENTS: said["rate"],
        CPU: said["server_cpu"] * 1e6 / said["events"],
        BYTES: said["bytes"] / said["events"],
        "server core, %": said["server_cpu"] / said["seconds"] * 100,
        LOAD: said["cpu"] * 100,
    }


def singly(server: Server) -> Figures:
    """The flood, one change a turn of the loop: nothing can be joined."""
    return flooded(server, one_a_turn=True)


def large(server: Server) -> Figures:
    """The flood with 2 kB and with 200 kB of state, whose change is the same few bytes."""
    small, big = flooded(server)[EVENTS], flooded(server, items=LARGE)[EVENTS]
    return {"2 kB, events per second": small, "200 kB, events per second": big, LARGE_TO_SMALL: big / small}


def calm(server: Server) -> Figures:
    """Twenty changes a second: from the change to the last of all readers."""
    with Running(server) as running, Load(running, READERS) as load:
        load.joined()
        running.control(CALM_RATE)
        time.sleep(WARM_SECONDS)
        said = observed(running, load, CALM_SECONDS)
    return {
        P50: said["last"]["p50"],
        P99: said["last"]["p99"],
        CPU: said["server_cpu"] * 1e6 / said["events"],
        "server core, %": said["server_cpu"] / said["seconds"] * 100,
        LOAD: said["cpu"] * 100,
    }


TOKENS_A_SECOND: Final = 2_000
BUSY_CHATS: Final = 100
ALL_CHATS: Final = 10_000
CPU_FEW: Final = f"{BUSY_CHATS} subscribers, server CPU µs per token"
MANY_TO_FEW: Final = "many to few"
CPU_MANY: Final = f"{ALL_CHATS:,} subscribers, server CPU µs per token"


def chats(server: Server) -> Figures:
    """Each reader follows a chat of its own, a hundred of them get tokens: what do the quiet ones cost?"""
    few, many = token_cpu(server, BUSY_CHATS), token_cpu(server, ALL_CHATS)
    return {CPU_FEW: few, CPU_MANY: many, MANY_TO_FEW: many / few}


def token_cpu(server: Server, readers: int) -> float:
    path = f"{server.path}&slices=chat/%d"
    with Running(server, CHATS=BUSY_CHATS) as running, Load(running, readers, path=path) as load:
        load.joined()
        running.control(TOKENS_A_SECOND)
        time.sleep(WARM_SECONDS)
        said = observed(running, load, FLOOD_SECONDS)
    if said["silent"] != readers - BUSY_CHATS:
        raise Unfit(f"expected {readers - BUSY_CHATS} readers without a token, got {said['silent']}")
    return float(said["server_cpu"] * 1e6 / said["events"])


PEERS: Final = ("better-sse", "nchan", "reference", "naive")
OURS: Final = ("statestream", "statestream-transport")

SCENARIOS: Final[Mapping[str, Scenario]] = {
    each.name: each
    for each in (
        Scenario(
            name="joined",
            title=f"{READERS:,} subscribers, a slice of 2 kB, more changes than can be sent, those of a turn joined",
            servers=("floor", *OURS, "statestream-asyncio", *PEERS),
            measure=flooded,
            figure=EVENTS,
            base="floor",
        ),
        Scenario(
            name="single",
            title=f"{READERS:,} subscribers, a slice of 2 kB, more changes than can be sent, each written separately",
            servers=(
                "floor",
                *OURS,
                "statestream-writes",
                "better-sse",
                "reference",
                "naive",
            ),  # nchan takes what is posted as it likes
            measure=singly,
            figure=EVENTS,
            base="floor",
        ),
        Scenario(
            name="large",
            title=f"{READERS:,} subscribers; the same change in 2 kB and in 200 kB of state",
            servers=("floor", *OURS, "better-sse", "reference"),
            measure=large,
            figure=LARGE_TO_SMALL,
            base="floor",
            rounds=3,
        ),
        Scenario(
            name="latency",
            title=f"{READERS:,} subscribers, {CALM_RATE} changes per second",
            servers=("floor", *OURS, "statestream-asyncio", *PEERS),
            measure=calm,
            figure=P99,
            base="floor",
        ),
        Scenario(
            name="chats",
            title=f"{TOKENS_A_SECOND:,} tokens per second in {BUSY_CHATS} chats; each subscriber follows one chat",
            servers=OURS,
            measure=chats,
            figure=CPU_MANY,
            base="statestream",
            rounds=3,
        ),
    )
}
