"""Several processes on one port: what clients notice of a restart, a crash and a stop, which is nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

import aiohttp
import pytest

from tests.support import BOARD, PlainClient, Server, dispatch, eventually
from tests.support.nursery import finished

APP = """
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from statestream import Slice, Store, create_app

VERSION = 1
board = Slice("board", initial={"count": 0})


@board.action
def counted(state):
    state["count"] += 1


async def who(request):
    return web.json_response({"pid": os.getpid(), "version": VERSION})


async def block(request):
    Path(os.environ["GATE"] + "-reached").touch()
    while not Path(os.environ["GATE"]).exists():
        time.sleep(0.01)
    return web.Response()


app = create_app(Store([board], journal=os.environ["JOURNAL"]))
app.router.add_get("/who", who)
app.router.add_get("/block", block)
"""
ASK = b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def is_running(pid: int) -> bool:
    """Whether a process exists and has not ended. It may be reaped while this looks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Workers(Server):
    """`statestream serve --workers` with an application that says which process answers, and which version of it."""

    def __init__(self, folder: Path, workers: int = 2, **env: str) -> None:
        self.program = folder / "served.py"
        self.program.write_text(APP)
        self.gate = folder / "gate"
        settings = {"JOURNAL": f"sqlite:///{folder / 'j.db'}", "GATE": str(self.gate), "PYTHONDONTWRITEBYTECODE": "1"}
        command = ("serve", f"{self.program}:app", "--workers", str(workers))
        super().__init__(*command, env={**settings, **env})

    def who(self) -> dict[str, int]:
        """Which process answers a new connection. Raises OSError if none does."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            client.sendall(ASK)
            answer = b""
            while data := client.recv(1 << 16):
                answer += data
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"not answered: {answer!r}")
        found: dict[str, int] = json.loads(answer.rpartition(b"\r\n")[2])
        return found

    def workers(self) -> set[int]:
        """The processes that the supervisor has started and that have not ended."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return {pid for pid in map(int, listed) if is_running(pid)}

    def says(self) -> str:
        """What has been written to stderr so far."""
        self.errors.flush()
        return Path(f"/proc/self/fd/{self.errors.fileno()}").read_text()

    def hang_up(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    def line(self) -> str:
        """The next line on stdout."""
        assert self.process
        assert self.process.stdout
        return self.process.stdout.readline()


class Crowd:
    """Clients that connect one after the other without a pause, and what happened to them."""

    def __init__(self, server: Workers, clients: int = 1) -> None:
        self._server, self._over = server, threading.Event()
        self.answers: list[dict[str, int]] = []
        self.problems: list[OSError] = []
        self._threads = [threading.Thread(target=self._connect_on) for _ in range(clients)]

    def _connect_on(self) -> None:
        while not self._over.is_set():
            try:
                self.answers.append(self._server.who())
            except OSError as problem:
                self.problems.append(problem)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


async def test_the_workers_share_one_port_and_one_journal(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    with Workers(tmp_path, 3) as server:
        assert len(server.workers()) == 3
        asked = [server.who()["pid"] for _ in range(60)]
        assert set(asked) == server.workers(), "the kernel spreads connections over the workers"
        clients = [PlainClient(server.port) for _ in range(6)]
        for client in clients:
            await asyncio.to_thread(client.connect)
            client.read_until(lambda frame: frame.event == "state.initial")
        _, answer = await dispatch(http, server.url, "board/counted")
        for client in clients:
            await asyncio.to_thread(client.read_to, answer["position"])
            assert client.state["board"] == {"count": 1}
            client.close()


@pytest.mark.slow
async def test_a_restart_refuses_and_resets_no_connection(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """Twice, while clients connect in a tight loop and a reader follows. The second time, the program has changed."""
    with Workers(tmp_path) as server:
        reader = PlainClient(server.port)
        await asyncio.to_thread(reader.connect)
        await dispatch(http, server.url, "board/counted")
        with Crowd(server) as crowd:
            for version in (1, 2000):
                old = server.workers()
                server.program.write_text(APP.replace("VERSION = 1\n", f"VERSION = {version}\n"))
                server.hang_up()
                assert await asyncio.to_thread(server.line) == "statestream has restarted its workers: 2\n"
                assert not server.workers() & old
                assert len(server.workers()) == 2
                answered = len(crowd.answers)
                await eventually(lambda answered=answered: len(crowd.answers) > answered + 20)
        assert crowd.problems == []
        assert {each["version"] for each in crowd.answers} == {1, 2000}
        assert {each["version"] for each in crowd.answers[-10:]} == {2000}
        ended = await asyncio.to_thread(lambda: list(reader.frames()))
        assert (ended[-1].event, ended[-1].data["reason"]) == ("stream.end", "shutdown")
        _, answer = await dispatch(http, server.url, "board/counted")
        await asyncio.to_thread(reader.connect)
        await asyncio.to_thread(reader.read_to, answer["position"])
        assert reader.state["board"] == {"count": 2}
        assert reader.reasons == ["start"], "it resumed where it was"
        reader.close()


@pytest.mark.soak
def test_fifty_restarts_refuse_and_reset_no_connection(tmp_path: Path) -> None:
    with Workers(tmp_path, 3) as server, Crowd(server, 4) as crowd:
        for _ in range(50):
            server.hang_up()
            assert server.line() == "statestream has restarted its workers: 3\n"
    print(f"50 restarts of 3 workers, {len(crowd.answers)} connections, {len(crowd.problems)} refused or reset")
    assert crowd.problems == []


@pytest.mark.slow
def test_the_workers_stay_if_the_new_program_does_not_start(tmp_path: Path) -> None:
    with Workers(tmp_path) as server:
        before = server.workers()
        server.program.write_text("raise RuntimeError('not today')")
        server.hang_up()
        asyncio.run(eventually(lambda: "the restart was given up" in server.says()))
        assert server.workers() == before
        assert server.who()["pid"] in before
        assert "RuntimeError: not today" in server.says()
        server.program.write_text(APP.replace("VERSION = 1\n", "VERSION = 2000\n"))
        server.hang_up()
        assert "has restarted its workers" in server.line()
        assert server.who()["version"] == 2000
        server.stop()


async def test_a_worker_that_is_killed_is_replaced_and_missed_by_nobody_who_comes_then(tmp_path: Path) -> None:
    with Workers(tmp_path) as server:
        killed = server.who()["pid"]
        os.kill(killed, signal.SIGKILL)
        with Crowd(server) as crowd:
            await eventually(lambda: len(server.workers() - {killed}) == 2)
            started = server.workers()
            await eventually(lambda: {each["pid"] for each in crowd.answers[-40:]} == started, seconds=60)
        assert crowd.problems == []
        assert f"(process {killed}) was ended by SIGKILL; another one takes its place" in server.says()


async def test_others_help_a_worker_that_is_blocked(tmp_path: Path) -> None:
    with Workers(tmp_path) as server, socket.create_connection(("127.0.0.1", server.port)) as blocking:
        blocking.sendall(ASK.replace(b"/who", b"/block"))
        await eventually((tmp_path / "gate-reached").exists)
        answers = [await asyncio.to_thread(server.who) for _ in range(30)]
        assert len({each["pid"] for each in answers}) == 1, "the blocked one has accepted nothing"
        server.gate.touch()
        assert blocking.recv(100).startswith(b"HTTP/1.1 200")


async def test_a_stop_answers_what_was_arriving_and_leaves_no_process(tmp_path: Path) -> None:
    server = Workers(tmp_path).start()
    workers = server.workers()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        body = b'{"type": "board/counted", "payload": {}}'
        head = "POST /dispatch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(body[:5])
        started = threading.Thread(target=server.stop)
        started.start()
        await eventually(lambda: refused(server.port))
        client.sendall(body[5:])
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
    await asyncio.to_thread(started.join)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
def test_a_stop_answers_connections_that_nobody_has_accepted_yet(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """They wait in the kernel, more of them than are accepted at once: the processes are frozen when they arrive."""
    server = Server("serve", BOARD, "--journal", f"sqlite:///{tmp_path / 'j.db'}", *workers, prefix=("env",))
    with server:
        listed = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        serving = [int(pid) for pid in listed] if workers else [server.pid]
        for pid in serving:
            os.kill(pid, signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(30)]
        for client in clients:
            client.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for pid in serving:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
        for client in clients:
            with client:
                assert client.recv(12) == b"HTTP/1.1 200"
    assert refused(server.port)


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_workers_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    server = Workers(tmp_path).start()
    workers = server.workers()
    server.kill()
    await eventually(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])
    assert refused(server.port)


@pytest.mark.slow
def test_what_cannot_be_served_is_said_once(tmp_path: Path) -> None:
    missing = finished("serve", "nothing.py:store", "--workers", "3", "--port", "0")
    assert missing.code == 2
    assert missing.err.count("there is no file nothing.py") == 1
    memory = finished("serve", BOARD, "--workers", "2", "--port", "0")
    assert memory.code == 2
    assert "with the journal memory:, each process would have a state of its own" in memory.err
    open_to_all = finished(
        "serve", BOARD, "--workers", "2", "--port", "0", "--host", "0.0.0.0", "--journal", f"sqlite:///{tmp_path}/j"
    )
    assert open_to_all.code == 2
    assert "nobody has to log in" in open_to_all.err
    assert finished("serve", BOARD, "--workers", "0").code == 2


def test_a_port_is_not_shared_with_another_server(tmp_path: Path) -> None:
    with Workers(tmp_path) as server:
        for workers in (["--workers", "2"], []):
            journal = f"sqlite:///{tmp_path / 'other.db'}"
            done = finished("serve", BOARD, *workers, "--port", str(server.port), "--journal", journal)
            assert done.code == 1
            assert "address already in use; choose another port" in done.err


@pytest.mark.long
async def test_the_supervisor_gives_up_when_no_worker_can_be_started_any_more(tmp_path: Path) -> None:
    server = Workers(tmp_path, 1).start()
    server.program.write_text("raise RuntimeError('not today')")
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    assert server.process
    assert await asyncio.to_thread(server.process.wait, 110) == 1
    assert "no worker can be started any more" in server._ended()


def test_systemd_is_told(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        with Workers(tmp_path, 1, NOTIFY_SOCKET=str(path)) as server:
            assert manager.recv(100) == b"READY=1"
            server.hang_up()
            assert manager.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"STOPPING=1"
        with Server.serving(env={"NOTIFY_SOCKET": str(path)}):
            assert manager.recv(100) == b"READY=1"


async def test_a_scrape_shows_every_worker(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    with Workers(tmp_path, 3) as server:
        readers = [PlainClient(server.port) for _ in range(30)]  # each worker is sure to have some
        for reader in readers:
            await asyncio.to_thread(reader.connect)

        async def scraped() -> dict[str, float]:
            async with http.get(f"{server.url}/metrics") as response:
                text = await response.text()
            names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
            assert len(names) == len(set(names)), "each metric is described once"
            found = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("statestream_subscribers{")]
            return {name: float(value) for name, value in found}

        workers = {f'statestream_subscribers{{worker="{number}"}}' for number in (1, 2, 3)}

        async def complete() -> bool:
            found = await scraped()
            return found.keys() == workers and sum(found.values()) == len(readers)

        await eventually(complete, seconds=60)
        os.kill(min(server.workers()), signal.SIGKILL)
        await eventually(complete_without_one(scraped, len(readers)), seconds=60)
        for reader in readers:
            reader.close()


async def test_no_counter_decreases_when_another_worker_answers(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """Otherwise Prometheus would see a restart, and a rate that never was."""
    with Workers(tmp_path, 2) as server:
        newest: dict[str, float] = {}
        for _ in range(40):  # each on a connection of its own, and so at either worker
            async with http.get(f"{server.url}/metrics", headers={"Connection": "close"}) as response:
                text = await response.text()
            lines = [line for line in text.splitlines() if line.startswith('statestream_requests_total{outcome="ok"')]
            found = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
            assert all(found.get(name, 0.0) >= value for name, value in newest.items())
            newest = found
        assert len(newest) == 2
        assert all(newest.values()), "both have answered"


def complete_without_one(
    scraped: Callable[[], Awaitable[dict[str, float]]], streams: int
) -> Callable[[], Awaitable[bool]]:
    """The streams of the worker that was killed are gone from the metrics, and the others are there."""

    async def check() -> bool:
        found = await scraped()
        return len(found) == 3 and 0 < sum(found.values()) < streams

    return check
