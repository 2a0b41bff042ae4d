"""A real server in its own process, in each mode in which it can own its sockets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.support.nursery import OTHERWISE, Grown, grow
from tests.support.paths import ROOT

BOARD = f"{ROOT / 'tests/apps/board.py'}:store"
ASGI_SERVE = ROOT / "tests/support/asgi_serve.py"
START_SECONDS = 60.0
SLOW_CALL = "in which the server did nothing else"
MODES = ("handed off", "on transports", "handed off, otherwise")
FRONT = os.environ.get("SERVED_BY", "statestream")
"""The server of the applications: the command's own, or the name of an ASGI server (tests/support/asgi_serve.py)."""


class Server:
    """`statestream serve` in a process of its own. `with Server(...) as server:` ends it with SIGTERM.

    `mode` is one of MODES: who owns the sockets of streams; uvloop and writes of their own for few readers, or
    asyncio's own loop and io_uring for all. `front` is what serves, see FRONT.
    """

    mode = MODES[0]
    front = FRONT

    def __init__(self, *arguments: str, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None) -> None:
        self.arguments, self.prefix, self.env = arguments, prefix, env or {}
        self.process: subprocess.Popen[str] | Grown | None = None
        self.port = 0

    @classmethod
    def serving(cls, target: str = BOARD, journal: str | None = None, **more: Any) -> Server:
        return cls("serve", target, *(("--journal", journal) if journal else ()), **more)

    def start(self) -> Server:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe that nobody drains would stop the server
        arguments, environment = [*self.arguments, *self._options(), "--port", str(self.port)], self._environment()
        by_another = self.front != "statestream" and self.arguments[0] in ("serve", "demo")
        program, module = (str(ASGI_SERVE), "tests.support.asgi_serve") if by_another else ("", "statestream")
        if by_another:
            arguments.insert(0, self.front)
        if self.prefix:
            command = [*self.prefix, sys.executable, "-W", "error", "-m", module, *arguments]
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT, env=environment
            )
        else:
            self.process = grow(arguments, environment, self.errors.fileno(), program)
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
            paths = [OTHERWISE, environment.get("PYTHONPATH", "")]
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

    def resident(self, what: str = "VmRSS") -> int:
        """The resident memory in bytes, now, or with VmHWM at its peak (proc(5))."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))

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

    def stop(self, *, slow_calls: bool = False) -> str:
        """SIGTERM, and what it wrote to stderr. A traceback there is a failure.

        Lines about slow calls are left out unless they are wanted: on a busy machine, any call may be slow.
        """
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        errors = self._ended()
        assert self.process.returncode == 0, errors
        return errors if slow_calls else "".join(line for line in errors.splitlines(True) if SLOW_CALL not in line)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        if self.process and self.process.poll() is None:
            if kind is not None:
                self.kill()
            else:
                self.stop()
