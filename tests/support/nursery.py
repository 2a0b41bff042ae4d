"""Processes that begin as copies of one that has imported everything.

Starting Python and importing the package takes most of a second of CPU time, a copy hundredths. A test run starts more
than a thousand servers, so each worker of the run has a nursery: a process that waits, and is copied (fork(2)) for each
server. A copy is a process of its own with its own arguments, environment and descriptors; it then does what
`python -W error -m statestream` does.

Invariants: a nursery has one thread and opens nothing but its socket, so a copy has nothing of it. It ends when the
worker does. What would have an effect while Python starts (`PYTHONPATH`, for example) needs a process of its own.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import msgspec.json

from tests.support.paths import ROOT
from tests.support.ran import Ran

ENDED: Final = b"%d"
LARGEST: Final = 1 << 20


class Order(msgspec.Struct):
    """What a copy is to run: the arguments of `statestream`, and its environment. The descriptors come beside it."""

    arguments: list[str]
    environment: dict[str, str]


class Grown:
    """A copy, as the tests use a process: like subprocess.Popen with a pipe as its stdout."""

    def __init__(self, connection: socket.socket, stdout: IO[str]) -> None:
        self._connection, self.stdout = connection, stdout
        self.returncode: int | None = None
        self.pid = int(connection.recv(32))

    def poll(self) -> int | None:
        with contextlib.suppress(BlockingIOError, TimeoutError):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutError."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            code = self._connection.recv(32)
            self._connection.close()
            self.returncode = int(code or -signal.SIGKILL)  # nothing: the nursery was killed
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it is waited for, its number is not given to another
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_nurseries: dict[int, tuple[subprocess.Popen[bytes], str]] = {}
"""By the process that started it: a forked test must not use that of its parent."""


def grow(arguments: Sequence[str], environment: Mapping[str, str], stderr: int) -> Grown:
    """Runs `statestream` in a copy, in the project's folder. The copy's stdout is a pipe."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(_address())
    reading, writing = os.pipe()
    order = msgspec.json.encode(Order(arguments=list(arguments), environment=dict(environment)))
    descriptors = array.array("i", [writing, stderr]).tobytes()
    connection.sendmsg([order], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    os.close(writing)
    return Grown(connection, os.fdopen(reading))


def finished(*arguments: str, seconds: float = 60.0, **environment: str) -> Ran:
    """What became of `statestream` with these arguments. It reads nothing. Raises TimeoutError."""
    with tempfile.TemporaryFile("w+") as errors:
        process = grow(arguments, os.environ | environment, errors.fileno())
        watch = threading.Timer(seconds, process.kill)
        watch.start()
        with process.stdout:
            out = process.stdout.read()
        code = process.wait(seconds)
        watch.cancel()
        errors.seek(0)
        return Ran(code, out, errors.read())


def _address() -> str:
    known = _nurseries.get(os.getpid())
    if known is None or known[0].poll() is not None:
        folder = tempfile.mkdtemp(prefix="nursery-")
        path = str(Path(folder) / "socket")
        command = [sys.executable, "-W", "error", "-c", "from tests.support.nursery import main; main()", path]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        known = _nurseries[os.getpid()] = process, path
        atexit.register(_end, process)
    return known[1]


def _end(nursery: subprocess.Popen[bytes]) -> None:
    with nursery:  # closes its pipes, which ends it
        pass


class Nursery:
    """The process that is copied. `run` returns in it when the worker has ended, and in a copy its order."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening, self._selector = listening, selectors.DefaultSelector()
        self._waking, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._written = waking
        self._copies: dict[int, socket.socket] = {}

    def run(self) -> Order | None:
        signal.set_wakeup_fd(self._written)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for each in (self._listening.fileno(), self._waking, sys.stdin.fileno()):
            self._selector.register(each, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in self._selector.select()}
            if self._waking in ready:
                self._reap()
            if self._listening.fileno() in ready and (order := self._copy()) is not None:
                return order
            if sys.stdin.fileno() in ready:
                return None

    def _reap(self) -> None:
        os.read(self._waking, 512)
        for pid in tuple(self._copies):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with self._copies.pop(pid) as connection, contextlib.suppress(OSError):
                    connection.send(ENDED % os.waitstatus_to_exitcode(status))

    def _copy(self) -> Order | None:
        """An order, in the copy that is to carry it out."""
        connection, _ = self._listening.accept()
        data, ancillary, _, _ = connection.recvmsg(LARGEST, socket.CMSG_SPACE(8))
        stdout, stderr = array.array("i", ancillary[0][2])
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._leave()
            for given, own in ((stdout, 1), (stderr, 2)):
                os.dup2(given, own)
                os.close(given)
            return msgspec.json.decode(data, type=Order)
        os.close(stdout)
        os.close(stderr)
        self._copies[pid] = connection
        connection.send(ENDED % pid)
        return None

    def _leave(self) -> None:
        """In a copy: closes what belongs to the nursery."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._listening.close()
        os.close(self._waking)
        os.close(self._written)
        for connection in self._copies.values():
            connection.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)


def _import() -> Any:
    """Everything that servers use; returns what runs a command."""
    import openai  # noqa: F401  # a server that needs it imports it when it is first used
    import uvloop  # noqa: F401

    import statestream.auth
    import statestream.chat  # noqa: F401
    from statestream.__main__ import main

    return main


def main() -> None:
    command = _import()
    gc.collect()
    gc.freeze()  # what all copies share is written to by nobody
    path = sys.argv[1]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
        order = Nursery(listening).run()
    if order is None:
        Path(path).unlink()
        Path(path).parent.rmdir()
        return
    os.environ.clear()
    os.environ.update(order.environment)
    sys.argv = ["statestream", *order.arguments]
    command()
