"""Redis servers of the tests: each a process of its own, with a free port and a temporary directory.

REDIS_SERVER names another program than `redis-server`, such as the path of a `valkey-server`.

Invariants: no server that is already running is ever used, and none outlives its test.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.support.typed import free_port

PROGRAM = os.environ.get("REDIS_SERVER", "redis-server")
START_SECONDS = 20.0
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


class RedisServer:
    """The program with `arguments`. It keeps its port and its directory over `kill` and `start`."""

    def __init__(self, *arguments: str, password: str | None = None) -> None:
        self.arguments, self.password, self.port = arguments, password, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="statestream-redis-"))
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: tuple[str, ...] = ()
        """What precedes the command, such as one that enters a name space."""
        self.hosts: tuple[str, ...] = ("127.0.0.1",)
        """Its addresses. With others than the first it must be in a network of its own."""

    @property
    def url(self) -> str:
        return self.url_at(self.hosts[0])

    def url_at(self, host: str) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{host}:{self.port}"

    def start(self) -> Self:
        """Returns when it answers."""
        secret = ("--requirepass", self.password) if self.password else ()
        command = [*self.prefix, PROGRAM, "--port", str(self.port), "--bind", *self.hosts]
        command += ["--protected-mode", "no"]
        command += ["--dir", str(self.folder), "--save", "", "--enable-debug-command", "yes", *secret, *self.arguments]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.01)
        return self

    def answers(self) -> bool:
        try:
            self("PING")
        except (RedisError, OSError):
            return False
        return True

    def __call__(self, *command: Any) -> Any:
        """The answer to a command, on a connection of its own."""
        retry = Retry(NoBackoff(), 0)
        with Redis(
            self.hosts[0], self.port, password=self.password, retry=retry, socket_timeout=10, protocol=2
        ) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """kill -9: nothing is flushed."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(timeout=START_SECONDS)

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def remove(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()
