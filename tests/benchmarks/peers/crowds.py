"""What is measured of readers that come, wait, or have stopped reading.

Invariants: as in `scenarios`. Memory is the server's resident memory, kernel memory is printed beside it: a socket's
buffers are not the process's.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks.peers.rig import Load, Running, Unfit
from tests.benchmarks.peers.scenarios import (
    CALM_RATE,
    CALM_SECONDS,
    LARGE,
    OURS,
    PEERS,
    READERS,
    WARM_SECONDS,
    Figures,
    Scenario,
    observed,
)
from tests.benchmarks.peers.servers import Server

IDLE: Final = 5_000
JOINERS: Final = 2_000
LIVE: Final = 100
FROZEN: Final = 100
SPARE_FILES: Final = 300
SOURCES: Final = 4
CHANGES: Final = 5
FROZEN_RATE: Final = 50
FILL_RATE, FILL_SECONDS = 4_000, 6.0
"""Six megabytes a reader: more than a socket's buffers take, so that a frozen reader is behind in earnest."""

IDLE_KB: Final = "kB per subscriber"
REACHED: Final = "change received by all, ms"
STORM: Final = "state received by all, s"
STORM_LIVE: Final = f"p99 of {LIVE} live subscribers, ms"
WITHOUT: Final = "p99 without frozen subscribers, ms"
WITH: Final = f"p99 with {FROZEN} frozen, ms"
WITH_TO_WITHOUT: Final = "with to without"
FROZEN_KB: Final = "kB per frozen subscriber"


def settled_kb(running: Running) -> float:
    """Resident memory once it has stopped growing."""
    last = running.rss_kb()
    while True:
        time.sleep(0.5)
        now = running.rss_kb()
        if now <= last * 1.001:
            return now
        last = now


def idle(server: Server, readers: int = IDLE) -> Figures:
    """One reader first, so that what is made once is not counted as a reader's."""
    with Running(server) as running, Load(running, 1) as first:
        first.joined()
        before = settled_kb(running)
        with Load(running, readers) as load:
            joined = load.joined()["join_s"]
            after = settled_kb(running)
    return {IDLE_KB: (after - before) / readers, "MB in total": after / 1024, "all joined, s": joined}


def kernel_mb() -> dict[str, float]:
    """What the kernel holds: for sockets' data, and in its slabs, where sockets themselves live."""
    tcp = next(line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    slab = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Slab:"))
    pages = int(tcp.rpartition("mem ")[2])
    return {"data": pages * resource.getpagesize() / (1 << 20), "slab": int(slab.split()[1]) / 1024}


def most_readers() -> int:
    """As many as there may be files, in the server as well as in the load."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_FILES


def crowd(server: Server, readers: int = 0) -> Figures:
    """So many, or as many as the system allows, all idle; then single changes, each of which goes to all."""
    readers = readers or most_readers()
    with Running(server) as running:
        before, kernel = settled_kb(running), kernel_mb()
        with Load(running, readers, sources=SOURCES) as load:
            load.joined()
            after, held = settled_kb(running), kernel_mb()
            running.control(1, CHANGES)
            said = observed(running, load, CHANGES + 2)
    if said["complete"] != CHANGES:
        raise Unfit(f"expected {CHANGES} changes to reach all readers, {said['complete']} did")
    return {
        "subscribers": readers,
        REACHED: said["last"]["p50"],
        IDLE_KB: (after - before) / readers,
        "kernel slabs, kB per subscriber (both ends)": (held["slab"] - kernel["slab"]) * 1024 / readers,
        "kernel socket data, MB": held["data"],
    }


def storm(server: Server) -> Figures:
    """Everyone joins at once, on 200 kB."""
    with Running(server, ITEMS=LARGE) as running, Load(running, JOINERS, at_a_time=JOINERS) as load:
        said = load.joined()
        return {
            STORM: said["join_s"],
            "by half of them, s": said["join"]["p50"] / 1e3,
            "server memory, MB": running.rss_kb() / 1024,
        }


def gale(server: Server) -> Figures:
    """The same storm, while some who are there already get changes."""
    with Running(server, ITEMS=LARGE) as running, Load(running, LIVE) as live:
        live.joined()
        running.control(CALM_RATE)
        time.sleep(WARM_SECONDS)
        live.so_far()
        with Load(running, JOINERS, at_a_time=JOINERS) as load:
            meanwhile = load.joined()["join_s"]
            said = live.so_far()
    return {STORM_LIVE: said["made"]["p99"], "maximum of these, ms": said["made"]["max"], STORM: meanwhile}


def frozen(server: Server) -> Figures:
    """The same readers, without and with some that never read again."""
    without, grown = with_frozen(server, 0)
    with_some, grown_more = with_frozen(server, FROZEN)
    return {
        WITHOUT: without,
        WITH: with_some,
        WITH_TO_WITHOUT: with_some / without,
        FROZEN_KB: (grown_more - grown) / FROZEN,
    }


def with_frozen(server: Server, some: int) -> tuple[float, float]:
    """The p99 of the others, and by how many kB the server has grown: the history that it keeps is in there."""
    with Running(server) as running, Load(running, READERS + some, frozen=some) as load:
        load.joined()
        running.control(FROZEN_RATE)
        time.sleep(WARM_SECONDS)
        before = running.rss_kb()
        running.control(FILL_RATE)
        time.sleep(FILL_SECONDS)
        running.control(FROZEN_RATE)
        time.sleep(WARM_SECONDS)
        grown = running.rss_kb() - before
        said = observed(running, load, CALM_SECONDS)
    return said["last"]["p99"], grown


CROWDS: Final[Mapping[str, Scenario]] = {
    each.name: each
    for each in (
        Scenario(
            name="idle",
            title=f"{IDLE:,} idle subscribers: resident memory of the server",
            servers=("floor", *OURS, "statestream-asyncio", *PEERS),
            measure=idle,
            figure=IDLE_KB,
            base="floor",
            rounds=3,
        ),
        Scenario(
            name="crowd",
            title=f"as many subscribers as the limit on open files allows, from {SOURCES} source addresses",
            servers=("floor", *OURS),
            measure=crowd,
            figure=REACHED,
            base="floor",
            rounds=3,
        ),
        Scenario(
            name="storm",
            title=f"{JOINERS:,} subscribers join at once; the state is 200 kB",
            servers=("floor", *OURS, *PEERS),
            measure=storm,
            figure=STORM,
            base="floor",
            rounds=3,
        ),
        Scenario(
            name="gale",
            title=f"the same storm, while {LIVE} subscribers receive {CALM_RATE} changes per second",
            servers=("floor", *OURS, "better-sse", "nchan"),
            measure=gale,
            figure=STORM_LIVE,
            base="floor",
            rounds=3,
        ),
        Scenario(
            name="frozen",
            title=f"{READERS:,} subscribers, and {FROZEN} that do not read",
            servers=("floor", *OURS),
            measure=frozen,
            figure=WITH,
            base="floor",
            rounds=3,
        ),
    )
}
