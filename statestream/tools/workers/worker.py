"""The program of one worker: `python -m statestream.tools.workers.worker DESCRIPTOR TARGET`.

Only a supervisor starts it. DESCRIPTOR is the socket through which it sends what to serve; TARGET is there for people
who list processes.

Invariants: a worker ends as `statestream serve` does, with the same exit codes and sentences. It also stops if its
supervisor has ended. It ignores SIGHUP, which a terminal sends to the whole group and only the supervisor understands.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import msgspec
import typer

from statestream.server.authentication import authenticates
from statestream.server.binding import Sockets
from statestream.server.metrics import share
from statestream.server.siblings import Siblings
from statestream.tools.console import serving
from statestream.tools.console.output import notice
from statestream.tools.workers.worker_process import READY, Order


def main() -> None:
    signal.signal(signal.SIGHUP, lambda *_: None)  # unlike SIG_IGN, this is not inherited by programs that it starts
    with _inherited(int(sys.argv[1])) as channel:
        with channel.makefile("rb") as lines:
            order = msgspec.json.decode(lines.readline(), type=Order)
        try:
            _serve(order, channel)
        except typer.BadParameter as error:
            notice(error.format_message())
            sys.exit(error.exit_code)
        except typer.Exit as end:
            sys.exit(end.exit_code)


def _serve(order: Order, channel: socket.socket) -> None:
    served = order.served
    application = served.application(order.workers)
    serving.check_reach(served.host, secure=served.insecure or authenticates(application), hint=serving.WITH_AUTH)
    for file in order.metrics:
        os.set_inheritable(file, False)
    if order.metrics:
        share(application, Siblings(order.number, order.metrics))
    sockets = Sockets(own=list(map(_inherited, order.own)), others=list(map(_inherited, order.others)))

    def ready(_: int) -> None:
        channel.sendall(READY)
        asyncio.get_running_loop().add_reader(channel, _orphaned, channel)

    serving.run(application, served.host, lambda: sockets, ready=ready, log=served.log())


def _inherited(descriptor: int) -> socket.socket:
    """A socket of the supervisor's. Programs that this process starts do not inherit it in turn."""
    found = socket.socket(fileno=descriptor)
    found.set_inheritable(False)
    return found


def _orphaned(channel: socket.socket) -> None:
    asyncio.get_running_loop().remove_reader(channel)
    signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
