"""PgBouncer in front of a PostgreSQL server of the tests: each transaction may run on another connection to it.

It has few connections, so that those of the clients do not keep theirs by chance.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Final, Self

from tests.support.postgresql import PASSWORD, PostgreSQL, shared
from tests.support.typed import free_port

PROGRAM: Final = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
AVAILABLE: Final = Path(PROGRAM).exists()
START_SECONDS: Final = 20.0


class PgBouncer:
    """`with PgBouncer(server) as pooler:`; its port is `pooler.port`. `mode` is `transaction` or `session`."""

    def __init__(self, server: PostgreSQL, mode: str = "transaction", connections: int = 5) -> None:
        self._server, self.port = server, free_port()
        self._folder = server.folder / f"pgbouncer-{self.port}"
        self._settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": self._folder / "users",
            "pool_mode": mode,
            "default_pool_size": connections,
            "server_round_robin": 1,
            "max_client_conn": 100,
        }

    def __enter__(self) -> Self:
        self._folder.mkdir()
        (self._folder / "users").write_text(f'"owner" "{PASSWORD}"\n')
        lines = [f"{name} = {value}" for name, value in self._settings.items()]
        database = f"postgres = host=127.0.0.1 port={self._server.port} dbname=postgres"
        file = self._folder / "pgbouncer.ini"
        file.write_text("\n".join(["[databases]", database, "[pgbouncer]", *lines, ""]))
        if self._server.user:  # it refuses root
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, self._server.user.pw_uid, self._server.user.pw_gid)
        command = [*self._server.as_user("--pdeathsig=INT"), PROGRAM, "-q", file]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        self._await_start()
        return self

    def _await_start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._server.answers(self.port):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def remove(self) -> None:
        self.process.kill()
        self.process.wait(START_SECONDS)

    def __exit__(self, *_: object) -> None:
        self.remove()


@cache
def shared_pooler() -> PgBouncer:
    """In front of the server that the tests of this process share."""
    pooler = PgBouncer(shared()).__enter__()
    atexit.register(pooler.remove)  # before the server: what is registered last runs first
    return pooler
