"""A program that an ASGI server runs, as its users start it: `python -m uvicorn with_fastapi:app`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.support.paths import ROOT
from tests.support.server import START_SECONDS
from tests.support.typed import free_port


class AsgiProcess:
    """`with AsgiProcess("uvicorn", "with_fastapi:app", folder) as program:` ends it with SIGTERM.

    It must have logged no traceback, or else one with the text `failure`.
    """

    def __init__(self, server: str, target: str, folder: Path, *options: str, failure: str = "") -> None:
        self.port, self._failure = free_port(), failure
        where = {
            "uvicorn": ("--port", str(self.port), "--no-access-log", "--timeout-graceful-shutdown", "5"),
            "hypercorn": ("--bind", f"127.0.0.1:{self.port}", "--workers", "0", "--graceful-timeout", "5"),
        }[server]
        self._command = [sys.executable, "-m", server, target, *where, *options]
        paths = os.pathsep.join([str(folder), str(ROOT)])
        self._folder, self._env = folder, os.environ | {"PYTHONPATH": paths}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile("w+")  # is closed with the program
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, env=self._env, stdout=self._log, stderr=subprocess.STDOUT
        )
        until = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.02)  # another process: there is nothing else to wait for
            else:
                return self
        log = self.stop()
        self._log.close()
        raise RuntimeError(f"the program did not start: {log}")

    def ask_to_stop(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> str:
        """Ends it, and returns what it has logged."""
        assert self._process
        if self._process.poll() is None:
            self.ask_to_stop()
        self._process.wait(timeout=START_SECONDS)
        return self.logged()

    def logged(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def __exit__(self, kind: object, *_: object) -> None:
        assert self._process
        if kind is not None:
            self._process.kill()
        log = self.stop()
        self._log.close()
        assert kind is not None or ("Traceback" in log) == bool(self._failure), log
        assert self._failure in log, log
