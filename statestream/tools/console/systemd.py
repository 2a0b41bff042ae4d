"""Tells systemd how far a service is (`Type=notify`, sd_notify(3)).

Invariants: does nothing if the process is not such a service. A service manager that does not listen is no reason to
stop.
"""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Sends a state, such as `READY=1`."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            manager.sendall(state.encode())
