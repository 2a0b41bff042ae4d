"""The cost of one client to all others: the latency of a live reader while another client misbehaves.

A reader follows a slice that changes fifty times a second; the latency of a change counts from the time at which it was
due. The connections on which these changes are dispatched exist before the attack, because a new one would wait in the
kernel behind all those that the attack opens. Each case attacks a server of its own from another process. The table has
the reader's latency before and during the attack, and the memory of the server at its peak and after the attackers have
gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import aiohttp
from msgspec import Struct

from tests.benchmarks.measure import percentile, table
from tests.support import ROOT, Server

APP: Final = f"{ROOT / 'tests/apps/crowded.py'}:app"
QUIET_SAMPLES: Final = 100
SECONDS: Final = 5.0
PERIOD: Final = 0.02
CONNECTIONS: Final = 60
MIB: Final = 1 << 20
RETURN_SECONDS: Final = 8.0
"""The server returns memory a few seconds after it was needed."""

Attack = Callable[["Target"], Awaitable[None]]
CASES: dict[str, Attack] = {}


def case(attack: Attack) -> Attack:
    CASES[attack.__name__] = attack
    return attack


class Target:
    """The server under attack. Requests and connections do not read more than they are told to."""

    def __init__(self, port: int, http: aiohttp.ClientSession) -> None:
        self.port, self.http, self.url = port, http, f"http://127.0.0.1:{port}"
        self.until = time.monotonic() + SECONDS
        self.held: list[socket.socket] = []

    def ask(self, path: str, *, reads: int = 0, headers: str = "") -> socket.socket:
        """Sends a request on a connection that is kept open, and reads only that many bytes of the answer."""
        connection = socket.create_connection(("127.0.0.1", self.port))
        self.held.append(connection)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        while reads > 0 and (data := connection.recv(min(reads, 1 << 16))):
            reads -= len(data)
        return connection

    async def post(self, path: str, body: bytes, content_type: str = "application/json") -> int:
        headers = {"Content-Type": content_type}
        async with self.http.post(f"{self.url}{path}", data=body, headers=headers) as response:
            await response.read()
            return response.status

    async def dispatch(self, *actions: object) -> int:
        return await self.post("/dispatch", json.dumps({"actions": actions}).encode())

    async def again(self, once: Callable[[], Awaitable[object]], parallel: int = 1) -> None:
        """Repeats something until the time is over."""

        async def repeat() -> None:
            while time.monotonic() < self.until:
                await once()

        await asyncio.gather(*(repeat() for _ in range(parallel)))

    async def rest(self) -> None:
        await asyncio.sleep(max(0.0, self.until - time.monotonic()))


def action(type: str, key: str | None = None, **payload: object) -> dict[str, object]:
    return {"type": type, "payload": payload} | ({} if key is None else {"key": key})


@case
async def quotes_in_a_content_type(target: Target) -> None:
    await target.again(lambda: target.post("/dispatch", b"{}", "application/json; x=" + '"' * 4_000))


@case
async def spaces_in_a_content_type(target: Target) -> None:
    await target.again(lambda: target.post("/dispatch", b"{}", "application/json;" + " " * 8_000 + "x"))


@case
async def snapshots_that_nobody_reads(target: Target) -> None:
    for _ in range(60):
        await asyncio.to_thread(target.ask, "/state?slices=big", reads=1)
        await target.dispatch(action("big/renewed"))
    await target.rest()


@case
async def streams_that_nobody_reads(target: Target) -> None:
    for _ in range(60):
        await asyncio.to_thread(target.ask, "/stream/state?slices=big", reads=1)
        await target.dispatch(action("big/renewed"))
    await target.rest()


@case
async def resumes_of_a_wide_selection(target: Target) -> None:
    async with target.http.get(f"{target.url}/state?slices=tick") as response:
        cursor = (await response.json())["position"]
    await target.dispatch(*(action("room/entered", key=str(number)) for number in range(300)))
    for number in range(300):
        target.ask(f"/stream/state?slices=many/*,room/{number}&after={cursor}")
    await target.rest()


@case
async def questions_of_an_empty_family(target: Target) -> None:
    async def once() -> None:
        async with target.http.get(f"{target.url}/state?slices=presence/*") as response:
            await response.read()

    await target.again(once, parallel=4)


@case
async def presences_of_chats_that_do_not_exist(target: Target) -> None:
    for number in range(300):
        names = ",".join(f"presence/no{number}-{other}" for other in range(20))
        target.ask(f"/stream/state?slices={names}", headers="Origin: http://127.0.0.9\r\n")
    await target.rest()


@case
async def a_long_list_shuffled_in_place(target: Target) -> None:
    seeds = itertools.count()
    await target.again(lambda: target.dispatch(action("rows/shuffled", seed=next(seeds))))


@case
async def a_megabyte_to_a_thousand_readers(target: Target) -> None:
    for _ in range(1_000):
        target.ask("/stream/state?slices=rows", reads=1)
    texts = itertools.cycle(("a" * 900_000, "b" * 900_000))
    await target.again(lambda: target.dispatch(action("rows/annotated", text=next(texts))))


@case
async def a_megabyte_of_brackets(target: Target) -> None:
    body = b'{"type":"board/none","payload":{"x":[' + b"[]," * 340_000 + b"0]}}"
    await target.again(lambda: target.post("/dispatch", body), parallel=4)


@case
async def batches_of_a_thousand_actions(target: Target) -> None:
    body = json.dumps({"actions": [action("room/entered", key="1")] * 1_000}).encode()
    await target.again(lambda: target.post("/dispatch", body), parallel=256)


@case
async def large_files_in_questions(target: Target) -> None:
    chat = await _new_chat(target)
    file = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64," + "A" * 900_000}
    for number in range(17):
        body = {"id": f"q{number}", "parts": [{"type": "text", "text": "?"}, file]}
        await target.post(f"/api/chats/{chat}/messages", json.dumps(body).encode())
        await asyncio.sleep(0.3)
    target.ask(f"/stream/state?slices=chat/{chat}", reads=1)
    await target.rest()


async def _new_chat(target: Target) -> str:
    async with target.http.post(f"{target.url}/api/chats", json={}) as response:
        return str((await response.json())["id"])


class Latencies(Struct, kw_only=True):
    """In seconds."""

    before: list[float]
    during: list[float]


async def measured(name: str, server: Server) -> Latencies:
    """Reads while the attack runs in a process of its own."""
    latencies: list[float] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        await asyncio.gather(
            *(_post(http, f"{server.url}/dispatch", action("tick/ticked", at=0.0)) for _ in range(CONNECTIONS))
        )
        reading = asyncio.create_task(_read(http, server, latencies))
        ticking = asyncio.create_task(_tick(http, server))
        try:
            while len(latencies) < QUIET_SAMPLES:
                await asyncio.sleep(PERIOD)
            before, _ = latencies[QUIET_SAMPLES // 5 :], latencies.clear()
            attacker = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.benchmarks.hostile", name, str(server.port), cwd=ROOT
            )
            if await attacker.wait() != 0:
                raise RuntimeError(f"the attack {name!r} has failed: what was measured says nothing")
            await asyncio.sleep(1.0)
        finally:
            for task in (reading, ticking):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
                await asyncio.gather(reading, ticking)
    return Latencies(before=before, during=latencies or [float("inf")])


async def _tick(http: aiohttp.ClientSession, server: Server) -> None:
    """One change per period, however long the previous one took: its latency counts from the time it was due."""
    due = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        while True:
            body = action("tick/ticked", at=due)
            tasks.create_task(_post(http, f"{server.url}/dispatch", body))
            due += PERIOD
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _post(http: aiohttp.ClientSession, url: str, body: object) -> None:
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with http.post(url, json=body) as response:
            await response.read()


async def _read(http: aiohttp.ClientSession, server: Server, latencies: list[float]) -> None:
    async with http.get(f"{server.url}/stream/state?slices=tick") as stream:
        async for line in stream.content:
            now = time.monotonic()
            if line.startswith(b"data: ") and b'"state.update"' in line:
                due = json.loads(line[6:])["value"]["at"]
                latencies.append(now - due)


def main(names: list[str] | None = None) -> None:
    rows = []
    for name in names or CASES:
        with Server.serving(APP) as server:
            resting = server.resident("VmRSS")
            latencies = asyncio.run(measured(name, server))
            time.sleep(RETURN_SECONDS)
            peak, after = server.resident("VmHWM"), server.resident("VmRSS")
        before, during = sorted(latencies.before), sorted(latencies.during)
        rows.append(
            [
                name.replace("_", " "),
                f"{percentile(before, 99) * 1e3:.0f}",
                f"{percentile(during, 99) * 1e3:.0f}",
                f"{during[-1] * 1e3:.0f}",
                f"{(peak - resting) / MIB:+.0f}",
                f"{(after - resting) / MIB:+.0f}",
            ]
        )
        print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    table(["case", "p99 quiet, ms", "p99, ms", "longest, ms", "peak, MiB", "after, MiB"], rows)


async def attack(name: str, port: int) -> None:
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(limit=0)
    ) as http:
        target = Target(port, http)
        await CASES[name](target)
        for connection in target.held:
            connection.close()


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2].isdigit():
        asyncio.run(attack(sys.argv[1], int(sys.argv[2])))
    else:
        main(sys.argv[1:])
