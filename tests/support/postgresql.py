"""A PostgreSQL server of the tests' own: in a temporary directory, on a free port. It touches no other.

Its roles are `owner`, which may do everything, and those that a test creates; each needs a password. It does not flush
to the disk, because what the tests kill is processes: what a process has written survives it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Self

import asyncpg

PASSWORD = "Tr0ub4dor-no-log"
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
}
_names = count(1)


def programs() -> Path:
    """Where the newest installed version has its programs; Debian keeps them off the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    found = versions[-1] if versions else Path(shutil.which("initdb") or "/usr/bin/initdb")
    return found.parent


class PostgreSQL:
    """A server. `with PostgreSQL() as server:` makes one and removes it."""

    def __init__(self, **settings: str) -> None:
        self.settings = SETTINGS | settings
        self.folder = Path(tempfile.mkdtemp(prefix="statestream-postgresql-"))
        self.data = self.folder / "data"
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self.user:  # the programs refuse root
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: tuple[str, ...] = ()
        """What precedes each command, such as one that enters a name space."""
        self.hosts: tuple[str, ...] = ("127.0.0.1",)
        """Its addresses. With others than the first it must be in a network of its own."""

    def url(
        self, schema: str = "statestream", *, role: str = "owner", host: str = "", port: int | None = None, **more: str
    ) -> str:
        parameters = "&".join(f"{name}={value}" for name, value in {"schema": schema, **more}.items())
        return f"postgresql://{role}:{PASSWORD}@{host or self.hosts[0]}:{port or self.port}/postgres?{parameters}"

    def new_url(self, **more: Any) -> str:
        """The URL of a journal that nobody has used."""
        return self.url(f"journal_{next(_names)}", **more)

    def create(self) -> Self:
        """Makes the files of an empty server: copies those that the first one of this process has made."""
        self._run("/bin/cp", "-a", f"{_made().data}/.", self.data)
        return self

    def make(self) -> Self:
        """Makes the files of an empty server, which takes a second of CPU time."""
        words = self.folder / "password"
        words.write_text(PASSWORD)
        words.chmod(0o644)
        self._run(
            "initdb", "-D", self.data, "-U", "owner", "-A", "scram-sha-256", "--pwfile", words, "-E", "UTF8", "-N"
        )
        return self

    def copy_of(self, primary: PostgreSQL) -> Self:
        """Makes the files of a standby, which follows another server until it is promoted."""
        source = f"host=127.0.0.1 port={primary.port} user=owner password={PASSWORD}"
        self._run("pg_basebackup", "-D", self.data, "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        return self

    def start(self) -> Self:
        access = self.folder / "access"
        access.write_text("".join(f"host {what} all all scram-sha-256\n" for what in ("all", "replication")))
        words = [f"-c{name}={value}" for name, value in self.settings.items()]
        sockets = f"-cunix_socket_directories={self.folder}"
        words += [
            f"-cport={self.port}",
            f"-clisten_addresses={','.join(self.hosts)}",
            sockets,
            "-cpassword_encryption=scram-sha-256",
        ]
        words += [f"-chba_file={access}"]
        command = [*self.prefix, *self.as_user("--pdeathsig=INT"), programs() / "postgres", "-D", self.data, *words]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while not self.answers(self.port):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        return self

    def answers(self, port: int) -> bool:
        """Whether a server, or a pooler in front of it, accepts connections at a port."""
        return self._run("pg_isready", "-q", "-h", self.hosts[0], "-p", port, check=False) == 0

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-D", self.data, "-w")

    def dumped(self, schema: str) -> str:
        """A backup of a schema, as SQL."""
        return self._piped("pg_dump", "-n", schema)

    def restore(self, backup: str) -> None:
        self._piped("psql", "-v", "ON_ERROR_STOP=1", "-q", given=backup)

    def _piped(self, program: str, *options: str, given: str = "") -> str:
        words = [
            programs() / program,
            *options,
            "-d",
            f"postgresql://owner:{PASSWORD}@{self.hosts[0]}:{self.port}/postgres",
        ]
        done = subprocess.run(words, capture_output=True, check=False, text=True, cwd=self.folder, input=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        """Ends connections and stops, as `systemctl stop` does."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def kill(self) -> None:
        """kill -9 of all its processes at once."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    async def connect(self, role: str = "owner") -> Any:
        return await asyncpg.connect(
            host=self.hosts[0], port=self.port, user=role, password=PASSWORD, database="postgres"
        )

    async def execute(self, *statements: str) -> None:
        driver = await self.connect()
        try:
            for statement in statements:
                await driver.execute(statement)
        finally:
            await driver.close()

    async def value(self, query: str, *values: Any) -> Any:
        driver = await self.connect()
        try:
            return await driver.fetchval(query, *values)
        finally:
            await driver.close()

    def as_user(self, *options: str) -> list[str]:
        """What precedes a command so that it runs as somebody who is not root, and ends with this process."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            return []
        other = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if self.user else []
        return [setpriv, *other, *options]

    def _run(self, program: str, *arguments: Any, check: bool = True) -> int:
        command = [*self.prefix, *self.as_user("--nnp"), programs() / program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=False, cwd=self.folder)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.returncode

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self.create().start()

    def __exit__(self, *_: object) -> None:
        self.remove()


@cache
def _made() -> PostgreSQL:
    """A server that never starts: others begin with its files."""
    server = PostgreSQL().make()
    atexit.register(server.remove)
    return server


@cache
def shared() -> PostgreSQL:
    """The server that the tests of this process share: each uses schemas and roles of its own."""
    server = PostgreSQL().create().start()
    atexit.register(server.remove)
    return server


class Relay:
    """A relay in front of a server, which can lose notifications and cut connections, as networks and poolers do."""

    def __init__(self, server: PostgreSQL) -> None:
        self.target = server.port
        self.keeps = lambda: True
        """Whether to pass a notification on."""
        self.lost = 0
        self.requests = 0
        """How often clients have sent something: once for each round trip, as asyncpg does."""
        self.passes = asyncio.Event()
        """Cleared, it lets nothing through and says nothing about it, as a broken network does."""
        self.passes.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Resets all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, back}
        ways = [asyncio.create_task(self._requests(reader, back)), asyncio.create_task(self._answers(there, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for each in (writer, back):
            self._writers.discard(each)
            each.transport.abort()
            with contextlib.suppress(OSError):
                await each.wait_closed()

    async def _requests(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            self.requests += 1
            await self.passes.wait()
            back.write(data)
            await back.drain()

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Message by message, which is a letter and a length; the answer to a request for TLS is a letter alone."""
        kind = await there.readexactly(1)
        if kind == b"N":
            writer.write(kind)
            kind = await there.readexactly(1)
        while True:
            head = await there.readexactly(4)
            body = await there.readexactly(int.from_bytes(head, "big") - 4)
            if kind == b"A" and not self.keeps():
                self.lost += 1
            else:
                await self.passes.wait()
                writer.write(kind + head + body)
                await writer.drain()
            kind = await there.readexactly(1)


@contextlib.contextmanager
def failing_over() -> Iterator[tuple[PostgreSQL, PostgreSQL]]:
    """A server and a standby that follows it."""
    with PostgreSQL() as primary:
        standby = PostgreSQL().copy_of(primary).start()
        try:
            yield primary, standby
        finally:
            standby.remove()
