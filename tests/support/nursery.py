"""Processes that begin as copies of one that has imported everything.

Starting Python and importing the package takes a second of CPU time, a copy hundredths. A test run starts more than a
thousand servers and commands, so each worker of the run has a nursery: a process that waits, and is copied (fork(2))
for each of them. A copy is a process of its own with its own arguments, environment, folder and descriptors; it then
does what `python -W error -m statestream` does. Servers that run otherwise (tests/apps/otherwise) have a nursery of
their own, because what makes them different happens while Python starts.

A copy that starts a module of the package as a process of its own (the readers of `bench`) gets another copy for it:
its `sys.executable` is a program that asks for one (tests/support/sprout.py).

Invariants: a nursery has one thread and opens nothing but its socket, so a copy has nothing of it. It ends when the
worker does, and kills a copy that the worker has lost sight of. Apart from tests/apps/otherwise, what has an effect
while Python starts (other folders in `PYTHONPATH`, for example) needs a process that is no copy.
"""

from __future__ import annotations

import array
import asyncio
import atexit
import contextlib
import fcntl
import gc
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import msgspec.json

from tests.support.paths import ROOT
from tests.support.ran import Ran

OTHERWISE: Final = str(ROOT / "tests/apps/otherwise")
ENDED: Final = b"%d"
LARGEST: Final = 1 << 20
SPROUT: Final = ROOT / "tests/support/sprout.py"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a copy is to run: the arguments of `statestream`, and its environment. The descriptors come beside it.

    `program`: the path of a program to run in its place, if there is one; with `-m`, the first argument is a module.
    `on_terminal`: its stdin is the terminal of a session of its own, so that Ctrl-C there is a signal for it.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    program: str
    on_terminal: bool


class Grown:
    """A copy, as the tests use a process: like subprocess.Popen."""

    def __init__(self, connection: socket.socket, stdout: IO[str] | None = None) -> None:
        self._connection, self.stdout = connection, stdout
        self.returncode: int | None = None
        self.pid = int(connection.recv(32))

    def poll(self) -> int | None:
        with contextlib.suppress(BlockingIOError, TimeoutError):
            self.wait(timeout=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutError."""
        if self.returncode is not None:
            return self.returncode
        self._connection.settimeout(timeout)
        return self._ended_with(self._connection.recv(32))

    async def ended(self) -> int:
        """The same as `wait`, for asyncio."""
        if self.returncode is not None:
            return self.returncode
        self._connection.setblocking(False)
        code = await asyncio.get_running_loop().sock_recv(self._connection, 32)
        return self.returncode if self.returncode is not None else self._ended_with(code)

    def _ended_with(self, code: bytes) -> int:
        self._connection.close()
        self.returncode = int(code or -signal.SIGKILL)  # nothing: the nursery was killed
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # until it is waited for, its number is not given to another
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_nurseries: dict[tuple[int, bool], tuple[subprocess.Popen[bytes], str]] = {}
"""By the process that started it, as a forked test must not use that of its parent, and by whether it is otherwise."""


def plant(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    descriptors: tuple[int, int, int],
    *,
    folder: Path = ROOT,
    program: str = "",
    on_terminal: bool = False,
) -> socket.socket:
    """Runs `statestream` in a copy whose stdin, stdout and stderr are these. What it returns is for Grown."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(_address(OTHERWISE in environment.get("PYTHONPATH", "").split(os.pathsep)))
    order = Order(
        arguments=list(arguments),
        environment=dict(environment),
        folder=str(folder),
        program=program,
        on_terminal=on_terminal,
    )
    ancillary = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())
    connection.sendmsg([msgspec.json.encode(order)], [ancillary])
    return connection


def grow(arguments: Sequence[str], environment: Mapping[str, str], stderr: int, program: str = "") -> Grown:
    """Runs `statestream`, or a program, in a copy in the project's folder. It reads nothing; its stdout is a pipe."""
    reading, writing = os.pipe()
    with Path(os.devnull).open() as nothing:
        connection = plant(arguments, environment, (nothing.fileno(), writing, stderr), program=program)
    os.close(writing)
    return Grown(connection, os.fdopen(reading))


def finished(
    *arguments: str, seconds: float = 60.0, stdin: str = "", folder: Path = ROOT, program: str = "", **environment: str
) -> Ran:
    """What became of `statestream`, or of a program, with these arguments. Raises TimeoutError."""
    with contextlib.ExitStack() as files:
        given, out, errors = (files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3))
        given.write(stdin)
        given.seek(0)
        descriptors = given.fileno(), out.fileno(), errors.fileno()
        process = Grown(plant(arguments, os.environ | environment, descriptors, folder=folder, program=program))
        try:
            code = process.wait(seconds)
        finally:
            process.kill()
        out.seek(0)
        errors.seek(0)
        return Ran(code, out.read(), errors.read())


def _address(otherwise: bool) -> str:
    key = os.getpid(), otherwise
    known = _nurseries.get(key)
    if known is None or known[0].poll() is not None:
        folder = tempfile.mkdtemp(prefix="nursery-")
        path = str(Path(folder) / "socket")
        command = [sys.executable, "-W", "error", "-c", "from tests.support.nursery import main; main()", path]
        environment = os.environ | ({"PYTHONPATH": OTHERWISE} if otherwise else {})
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT, env=environment)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        known = _nurseries[key] = process, path
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
            ready = {key.fd: key.data for key, _ in self._selector.select()}
            if self._waking in ready:
                self._reap()
            for pid in filter(None, ready.values()):
                self._lose(pid)
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
                    with contextlib.suppress(KeyError):  # it was lost
                        self._selector.unregister(connection)
                    connection.send(ENDED % os.waitstatus_to_exitcode(status))

    def _lose(self, pid: int) -> None:
        """The connection of a copy is readable: nobody has it any more, as in a test that failed."""
        if pid in self._copies:
            self._selector.unregister(self._copies[pid])
            os.kill(pid, signal.SIGKILL)

    def _copy(self) -> Order | None:
        """An order, in the copy that is to carry it out."""
        connection, _ = self._listening.accept()
        data, ancillary, _, _ = connection.recvmsg(LARGEST, socket.CMSG_SPACE(12))
        descriptors = array.array("i", ancillary[0][2])
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._leave()
            for own, given in enumerate(descriptors):
                os.dup2(given, own)
                os.close(given)
            return msgspec.json.decode(data, type=Order)
        for each in descriptors:
            os.close(each)
        self._copies[pid] = connection
        self._selector.register(connection, selectors.EVENT_READ, pid)
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


def _import() -> Any:
    """Everything that servers use; returns what runs a command."""
    import openai  # noqa: F401  # a server that needs it imports it when it is first used

    with contextlib.suppress(ImportError):  # in servers that run otherwise
        import uvloop  # noqa: F401
    import statestream.auth
    import statestream.chat  # noqa: F401
    from statestream.__main__ import main

    return main


def main() -> None:
    command = _import()
    known = frozenset(sys.modules)
    gc.collect()
    gc.freeze()  # what all copies share is written to by nobody
    path = sys.argv[1]
    python = Path(path).with_name("python")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {SPROUT} "$@"\n')
    python.chmod(0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
        order = Nursery(listening).run()
    if order is None:
        python.unlink()
        Path(path).unlink()
        Path(path).parent.rmdir()
        return
    os.environ.clear()
    os.environ.update(order.environment)
    os.environ["NURSERY"], sys.executable = path, str(python)
    os.chdir(order.folder)
    if order.on_terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it began as a pipe
    sys.argv = [order.program or "statestream", *order.arguments]
    code: Any = 0
    try:
        if order.program == "-m":
            runpy.run_module(order.arguments[0], run_name="__main__", alter_sys=True)
        elif order.program:
            sys.path[0] = str(Path(order.program).parent)
            runpy.run_path(order.program, run_name="__main__")
        else:
            command()
    except SystemExit as ending:
        code = ending.code or 0
    if isinstance(code, int):
        _end_early(code, known)
    sys.exit(code)


def _end_early(code: int, known: frozenset[str]) -> None:
    """Ends a copy without taking apart what all copies share, which takes longer than most of them live.

    What is its own is taken apart, so that what it has left open is complained about. Returns if that cannot be said.
    """
    threading._shutdown()  # as Python does
    atexit._run_exitfuncs()
    for name in [name for name in sys.modules if name not in known]:
        where = getattr(sys.modules[name], "__file__", None) or sys.prefix
        if not where.startswith((sys.prefix, sys.base_prefix)):
            vars(sys.modules.pop(name)).clear()
    gc.collect()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
