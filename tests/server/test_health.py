"""Whether a server says that it is well, from outside: while its journal fails and recovers, and while it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream.store import vitals
from tests.support import BOARD, PlainClient, Server, dispatch, eventually

Http = aiohttp.ClientSession


async def health(http: Http, server: Server, which: str = "ready") -> tuple[int, str, list[str]]:
    """The status of the answer, that of the server, and the codes of its reasons."""
    async with http.get(f"{server.url}/health/{which}") as response:
        body = await response.json()
        assert response.headers["Cache-Control"] == "no-store"
        assert set(body) == {"status", "reasons"}
        return response.status, body["status"], [reason["code"] for reason in body["reasons"]]


HEALTHY = (200, "healthy", [])


async def lacks_its_journal(http: Http, server: Server) -> bool:
    """Whether the server says so. If its first trim failed as well, that is another reason, for some seconds more."""
    status, word, reasons = await health(http, server)
    return (status, word) == (503, "failed") and set(reasons) - {"trimming"} == {"journal"}


async def becomes(http: Http, server: Server, wanted: Any) -> None:
    async def is_so() -> bool:
        return await health(http, server) == wanted

    await eventually(is_so)


async def test_a_server_is_live_and_ready_and_says_nothing_else(sqlite_server: Server, http: Http) -> None:
    for which in ("live", "ready"):
        assert await health(http, sqlite_server, which) == HEALTHY
        async with http.get(f"{sqlite_server.url}/health/{which}?probe=1") as response:
            assert await response.text() == '{"status":"healthy","reasons":[]}'
        async with http.head(f"{sqlite_server.url}/health/{which}") as response:
            assert response.status == 200


async def test_a_moved_journal_is_noticed_without_a_dispatch_and_so_is_its_return(tmp_path: Path, http: Http) -> None:
    path = tmp_path / "secret-place.db"
    with Server.serving(journal=f"sqlite:///{path}") as server:
        assert await health(http, server) == HEALTHY
        path.rename(tmp_path / "elsewhere")
        await eventually(lambda: lacks_its_journal(http, server))
        async with http.get(f"{server.url}/health/ready") as response:
            text = await response.text()
        assert "the journal cannot be written to" in text
        assert "secret-place" not in text
        assert await health(http, server, "live") == HEALTHY, "a restart would not help"
        assert (await dispatch(http, server.url, "board/task_added", {"id": "1", "title": "t"}))[0] == 503
        (tmp_path / "elsewhere").rename(path)
        await becomes(http, server, HEALTHY)
        assert (await dispatch(http, server.url, "board/task_added", {"id": "2", "title": "t"}))[0] == 200


async def test_probes_write_nothing_to_a_journal_that_works(tmp_path: Path, http: Http) -> None:
    path = tmp_path / "journal.db"
    with Server.serving(journal=f"sqlite:///{path}") as server:
        files = [path, path.with_name("journal.db-wal"), path.with_name("journal.db-head")]

        async def quiet() -> bool:
            """Whether nothing was written while the server was asked, and looked once at least."""
            before = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files]
            until = asyncio.get_running_loop().time() + 1.2 * vitals.LOOK_SECONDS
            while asyncio.get_running_loop().time() < until:
                assert await health(http, server) == HEALTHY
            return [(file.stat().st_size, file.stat().st_mtime_ns) for file in files] == before

        await eventually(quiet)  # the first time, the node records that it has started


@pytest.fixture
async def small_disk(tmp_path: Path) -> AsyncIterator[tuple[Server, Path]]:
    """A server whose journal is on a disk of a megabyte and a half, mounted in a name space of its own."""
    if os.geteuid() != 0 or sys.platform != "linux":
        pytest.skip("mounts a file system, which takes root on Linux")
    mount = f'mount -t tmpfs -o size=1536k tmpfs {tmp_path} && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", mount, "sh")
    with Server("serve", BOARD, "--journal", f"sqlite:///{tmp_path}/journal.db", prefix=prefix) as server:
        yield server, Path(f"/proc/{server.pid}/root{tmp_path}")


async def test_a_full_disk_is_noticed_and_so_is_that_it_has_room_again(
    small_disk: tuple[Server, Path], http: Http
) -> None:
    server, disk = small_disk
    assert await health(http, server) == HEALTHY
    filler = disk / "filler"
    with filler.open("wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        file.write(bytes(free - (8 << 10)))
    title = "x" * 50_000
    assert (await dispatch(http, server.url, "board/task_added", {"id": "1", "title": title}))[0] == 503
    assert await lacks_its_journal(http, server)
    assert await server.metric(http, "journal_appends_failed_total") >= 1
    assert await server.metric(http, 'trouble{cause="journal"}') == 1
    for _ in range(3):  # it does not waver
        assert await lacks_its_journal(http, server)
    filler.unlink()
    run = subprocess.run(
        ["nsenter", "-m", "-t", str(server.pid), "mount", "-o", "remount,size=8m", str(disk).split("/root", 1)[1]],
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    await becomes(http, server, HEALTHY)  # nobody has dispatched anything
    assert (await dispatch(http, server.url, "board/task_added", {"id": "2", "title": title}))[0] == 200


async def test_a_server_that_stops_is_not_ready_but_alive(tmp_path: Path) -> None:
    """A connection that was open before, and a request that is arriving, keep it from ending at once."""
    with Server.serving() as server:
        arriving = socket.create_connection(("127.0.0.1", server.port))
        arriving.sendall(b"POST /dispatch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{")
        with socket.create_connection(("127.0.0.1", server.port)) as kept:
            kept.settimeout(10)
            assert b" 200 OK" in asked(kept, "ready")
            assert server.process
            server.process.send_signal(signal.SIGTERM)

            async def refuses() -> bool:
                try:
                    socket.create_connection(("127.0.0.1", server.port)).close()
                except OSError:
                    return True
                return False

            await eventually(refuses)
            answer = asked(kept, "ready")
            assert b" 503 Service Unavailable" in answer
            assert b'"code":"stopping"' in answer
            assert b'"status":"failed"' in answer
        arriving.sendall(b"}")
        arriving.close()


def asked(connection: socket.socket, which: str) -> bytes:
    connection.sendall(f"GET /health/{which} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"}"):
        data = connection.recv(1 << 16)
        if not data:
            break
        answer += data
    return answer


async def test_a_server_without_room_for_streams_is_degraded_and_ready(http: Http) -> None:
    with (
        Server("serve", BOARD, "--max-subscribers", "1") as server,
        PlainClient(server.port) as client,
    ):
        client.read_until(lambda _: True)
        assert await health(http, server) == (200, "degraded", ["streams"])


MORTAL = """
import asyncio
from statestream import Slice, Store, create_app

app = create_app(Store([Slice("board", initial={{}})], journal={journal}))
{more}
"""
KILLS = """
async def kill(app):
    next(task for task in asyncio.all_tasks() if "Writer.run" in repr(task)).cancel()
    yield
app.cleanup_ctx.append(kill)
"""
FAILING = """
from statestream.core.errors import Unavailable
from statestream.journal import MemoryJournal

class Failing(MemoryJournal):
    failing = False

    async def append(self, batch):
        if Failing.failing:
            raise Unavailable("no")
        return await super().append(batch)

    async def wait(self, after):
        if Failing.failing:
            raise Unavailable("no")
        await asyncio.sleep(0.01)
"""


async def test_a_server_whose_writer_has_ended_is_not_alive(tmp_path: Path, http: Http) -> None:
    (tmp_path / "app.py").write_text(MORTAL.format(journal="'memory:'", more=KILLS))
    with Server("serve", f"{tmp_path / 'app.py'}:app") as server:
        assert await health(http, server, "live") == (503, "failed", ["dead"])
        assert (await health(http, server))[:2] == (503, "failed")


async def test_a_journal_that_cannot_be_followed_makes_a_server_degraded(tmp_path: Path, http: Http) -> None:
    turn = "from aiohttp import web\nasync def turn(request):\n    Failing.failing = not Failing.failing\n"
    route = "    return web.Response()\napp.router.add_post('/turn', turn)\n"
    (tmp_path / "app.py").write_text(FAILING + MORTAL.format(journal="Failing()", more=turn + route))
    with Server("serve", f"{tmp_path / 'app.py'}:app") as server:
        assert await health(http, server) == HEALTHY
        async with http.post(f"{server.url}/turn"):
            pass
        await becomes(http, server, (200, "degraded", ["following"]))
        async with http.post(f"{server.url}/turn"):
            pass
        await becomes(http, server, HEALTHY)


AUTHENTICATED = """
from statestream import Slice, Store, create_app
from statestream.core.errors import Unauthenticated

async def auth(request):
    raise Unauthenticated("no")

app = create_app(Store([Slice("board", initial={})]), auth=auth)
"""


async def test_a_health_check_needs_no_credentials(tmp_path: Path, http: Http) -> None:
    (tmp_path / "app.py").write_text(AUTHENTICATED)
    with Server("serve", f"{tmp_path / 'app.py'}:app") as server:
        async with http.get(f"{server.url}/state") as response:
            assert response.status == 401
        assert [await health(http, server, which) for which in ("live", "ready")] == [HEALTHY, HEALTHY]
