"""What a reader of the documentation types into a terminal, and what it says.

Invariants: a line is run as the page has it, by a shell, in the reader's folder. Only the port is another one: somebody
may be on 8000.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.support import eventually

_SERVES = re.compile(r"^(statestream (?:serve|demo)\b[^#\n]*|statestream replay\b[^#\n]*--serve)", re.MULTILINE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


class Desk:
    """A folder, and a port."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder, self.port = folder, port or free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, name: str, text: str) -> None:
        (self.folder / name).write_text(self._here(text), encoding="utf-8")

    def types(self, line: str, **environment: str) -> Typed:
        return Typed(self.folder, _SERVES.sub(rf"\1 --port {self.port} ", self._here(line)), **environment)

    def _here(self, text: str) -> str:
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")


class Typed:
    """A line in a terminal of its own. `lines` is what it has said so far, `errors` what it has said to stderr."""

    def __init__(self, folder: Path, line: str, **environment: str) -> None:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._line, self._folder = line, folder
        self._environment = os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"} | environment

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            "bash", "-c", self._line, cwd=self._folder, env=self._environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, limit=1 << 20,
        )  # fmt: skip
        assert self._process.stdout
        assert self._process.stderr
        heard = (self._read(self._process.stdout, self.lines), self._read(self._process.stderr, self.errors))
        self._over = asyncio.gather(*heard, self._process.wait())
        return self

    async def _read(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        async for line in stream:
            lines.append(line.decode().rstrip("\n"))  # noqa: PERF401  # others look at it meanwhile

    def __repr__(self) -> str:
        return f"{self._line}: {self.lines[-20:]} {self.errors[-20:]}"

    async def says(self, pattern: str) -> None:
        """Waits for a line with it."""

        def said() -> bool:
            over = self._over.done()
            found = any(re.search(pattern, line) for line in self.lines)
            assert found or not over, (pattern, self)
            return found

        try:
            await eventually(said, seconds=30)
        except AssertionError:
            raise AssertionError(pattern, self) from None

    async def ends(self, code: int = 0) -> list[str]:
        """All that it has said, when it has ended by itself."""
        async with asyncio.timeout(60):
            await self._over
        assert self._process.returncode == code, self
        return self.lines

    async def interrupt(self) -> None:
        """Ctrl-C, which is no failure."""
        os.killpg(self._process.pid, signal.SIGINT)
        await self.ends()

    async def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        await self.ends(-signal.SIGKILL)

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._over
