"""A real server in a subprocess, and a plain client on a raw socket that shares no code with the product."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import jsonpatch
from aiohttp import web

ROOT = Path(__file__).parent.parent.parent
BOARD = f"{ROOT / 'tests/apps/board.py'}:store"
START_SECONDS = 30.0


MODES = ("handed off", "on transports", "handed off, otherwise")


class Server:
    """`statestream serve` in a process of its own. `with Server(...) as server:` ends it with SIGTERM.

    `mode` is one of MODES: who owns the sockets of streams; uvloop and writes of their own for few readers, or
    asyncio's own loop and io_uring for all.
    """

    mode = MODES[0]

    def __init__(self, *arguments: str, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None) -> None:
        self.arguments, self.prefix, self.env = arguments, prefix, env or {}
        self.process: subprocess.Popen[str] | None = None
        self.port = 0

    @classmethod
    def serving(cls, target: str = BOARD, journal: str | None = None, **more: Any) -> Server:
        return cls("serve", target, *(("--journal", journal) if journal else ()), **more)

    def start(self) -> Server:
        command = [
            *self.prefix,
            sys.executable,
            "-W",
            "error",
            "-m",
            "statestream",
            *self.arguments,
            *self._options(),
            "--port",
            str(self.port),
        ]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe that nobody drains would stop the server
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT, env=self._environment()
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if "serving on" not in line:
            raise RuntimeError(f"the server did not start: {line}{self._ended()}")
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def _options(self) -> list[str]:
        a_store = any(argument.endswith(":store") for argument in self.arguments)
        return ["--no-handoff"] if a_store and self.mode == "on transports" else []

    def _environment(self) -> dict[str, str]:
        """An application is told by HANDOFF: it has no options on the command line."""
        handoff = "0" if self.mode == "on transports" else "1"
        environment = os.environ | {"HANDOFF": handoff} | self.env
        if self.mode.endswith("otherwise"):
            paths = [str(ROOT / "tests/apps/otherwise"), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        return environment

    async def metric(self, http: aiohttp.ClientSession, name: str) -> float:
        """A figure of /metrics, with its labels as they are there."""
        async with http.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.rsplit(" ", 1)[0] == f"statestream_{name}"]
        return found[0] if found else 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def kill(self) -> None:
        """kill -9: nothing is flushed, nothing is said."""
        assert self.process
        self.process.kill()
        self._ended()

    def _ended(self) -> str:
        """Waits for the process, and gives what it wrote to stderr."""
        assert self.process
        assert self.process.stdout
        self.process.wait(timeout=START_SECONDS)
        self.process.stdout.close()
        self.errors.seek(0)
        errors = self.errors.read()
        self.errors.close()
        return errors

    def stop(self) -> str:
        """SIGTERM, and what it wrote to stderr. A traceback there is a failure."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        errors = self._ended()
        assert self.process.returncode == 0, errors
        return errors

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        if self.process and self.process.poll() is None:
            if kind is not None:
                self.kill()
            else:
                self.stop()


class Frame:
    """An event as the plain client read it."""

    def __init__(self, event: str, data: Any, id: str | None, size: int) -> None:
        self.event, self.data, self.id, self.size = event, data, id, size

    def __repr__(self) -> str:
        return f"<{self.event} {self.id} {self.data}>"


class PlainClient:
    """An EventSource on a raw socket: HTTP/1.0, so that the body is the stream. Keeps state by jsonpatch."""

    def __init__(self, port: int, query: str = "slices=*", path: str = "/stream/state") -> None:
        self.port, self.target = port, f"{path}?{query}"
        self.last_id = ""
        self.state: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.applied: list[tuple[str, int]] = []
        self.reasons: list[str] = []
        self.bytes = 0
        self.socket: socket.socket | None = None
        self._buffer = b""

    def connect(
        self, *, cursor: str | None = None, header: str = "Last-Event-ID", timeout: float = 20.0
    ) -> PlainClient:
        self.dial(timeout)
        self.ask(self.last_id if cursor is None else cursor, header)
        return self.answered()

    def dial(self, timeout: float = 20.0) -> None:
        self.close()
        self.socket = socket.create_connection(("127.0.0.1", self.port))  # blocking: loopback answers at once
        self.socket.settimeout(timeout)

    def ask(self, cursor: str = "", header: str = "Last-Event-ID") -> None:
        assert self.socket
        line = f"{header}: {cursor}\r\n" if cursor else ""
        self.socket.sendall(f"GET {self.target} HTTP/1.0\r\nHost: x\r\n{line}\r\n".encode())

    def answered(self) -> PlainClient:
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        self.head = head.decode()
        self.status = int(head.split()[1])
        return self

    def _more(self, size: int = 1 << 16) -> None:
        assert self.socket
        data = self.socket.recv(size)
        if not data:
            raise EOFError
        self._buffer += data
        self.bytes += len(data)

    def frames(self) -> Iterator[Frame]:
        """Frames as they come, applied; ends when the server closes."""
        while True:
            while b"\n\n" not in self._buffer:
                try:
                    self._more()
                except (EOFError, ConnectionError):
                    self.close()
                    return
            block, self._buffer = self._buffer.split(b"\n\n", 1)
            yield self._frame(block)

    def _frame(self, block: bytes) -> Frame:
        fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
        frame = Frame(fields["event"], json.loads(fields["data"]), fields.get("id"), len(block) + 2)
        self._apply(frame)
        if frame.id is not None:
            self.last_id = frame.id
        return frame

    def _apply(self, frame: Frame) -> None:
        data = frame.data
        assert data["type"] == frame.event
        if frame.event == "state.initial":
            self.state, self.versions = data["slices"], data["versions"]
            self.reasons.append(data["reason"])
        elif frame.event == "state.resumed":
            assert data["versions"] == self.versions, (data["versions"], self.versions)
        for item in {"state.update": [data], "state.catchup": data.get("updates", [])}.get(frame.event, []):
            self._update(item)

    def _update(self, item: Any) -> None:
        name, held = item["slice"], self.versions.get(item["slice"], 0)
        assert item["version"] > held, f"{name} came twice: {item['version']} after {held}"
        if "patches" in item:
            assert item["from"] == held, f"a hole in {name}: from {item['from']}, held {held}"
            self.state[name] = jsonpatch.apply_patch(self.state[name], item["patches"])
        elif "value" in item:
            self.state[name] = item["value"]
        if item.get("removed"):
            del self.state[name], self.versions[name]
        else:
            self.versions[name] = item["version"]
        self.applied.append((name, item["version"]))

    def read_some(self, size: int) -> int:
        """Takes at most `size` bytes off the stream, wherever they end, and applies the frames that are whole."""
        before = self.bytes
        while self.bytes - before < size:
            try:
                self._more(size - (self.bytes - before))
            except (EOFError, ConnectionError, TimeoutError):
                break
            while b"\n\n" in self._buffer:
                block, self._buffer = self._buffer.split(b"\n\n", 1)
                self._frame(block)
        return self.bytes - before

    def read_until(self, done: Any) -> list[Frame]:
        """The frames up to the first for which `done(frame)` holds. Fails if the stream ends before."""
        seen = []
        for frame in self.frames():
            seen.append(frame)
            if done(frame):
                return seen
        raise AssertionError(f"the stream ended after {seen[-3:]}")

    def read_to(self, position: str) -> None:
        """Reads until the cursor is at least there."""
        target = int(position.split(".")[0])
        if not self.last_id or int(self.last_id.split(".")[0]) < target:
            self.read_until(lambda frame: frame.id and int(frame.id.split(".")[0]) >= target)

    def cut(self) -> None:
        """Closes with a reset, as a lost network does."""
        if self.socket:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        if self.socket:
            self.socket.close()
            self.socket = None

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()


async def dispatch(session: aiohttp.ClientSession, url: str, type: str, payload: Any = None, **more: Any) -> Any:
    """POST /dispatch; the answer with its status as (status, body)."""
    body = {"type": type, "payload": payload or {}, **more}
    async with session.post(f"{url}/dispatch", json=body) as response:
        return response.status, await response.json(content_type=None)


async def get_state(session: aiohttp.ClientSession, url: str, query: str = "slices=*") -> Any:
    async with session.get(f"{url}/state?{query}") as response:
        assert response.status == 200
        return await response.json()


async def eventually(check: Any, *, seconds: float = 10.0, every: float = 0.02) -> Any:
    """Polls what has no event to wait for (another process's memory, files): the result of `check` once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := await found if inspect.isawaitable(found := check()) else found):
        assert time.monotonic() < deadline, f"not within {seconds} s: {check}"
        await asyncio.sleep(every)
    return result


@asynccontextmanager
async def serving(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server that answers everything alike."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
