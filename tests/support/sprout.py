"""Run in place of Python by a copy of a nursery: `-m MODULE …` runs in another copy, which is this process to others.

Invariants: it imports little, because it has to start faster than what it saves. The copy has its stdin, stdout and
stderr, gets its signals, and does not outlive it; it ends as the copy does. Whatever is not `-m MODULE` is for Python.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] != ["-m"]:
        os.execv(sys.executable, [sys.executable, *arguments])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(os.environ["NURSERY"])
        order = {"arguments": arguments[1:], "program": "-m", "on_terminal": False}
        order |= {"environment": dict(os.environ), "folder": str(Path.cwd())}
        descriptors = array.array("i", [0, 1, 2]).tobytes()
        connection.sendmsg([json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        pid = int(connection.recv(32))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        code = int(connection.recv(32) or -signal.SIGKILL)
    if code < 0:
        if code in (-signal.SIGINT, -signal.SIGTERM):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


main()
