"""The servers that are compared, and how each is started.

A server listens on PORT, answers `GET /stream/state` and `GET /ctl?rate=…&count=…`, and makes the changes
itself. To measure another one, add an adapter and a line here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ADAPTERS: Final = HERE / "adapters"
BUILT: Final = HERE.parents[2] / ".ready/peers"
"""Where what is compiled and measured is kept: `make clean` removes it."""

STREAM: Final = "/stream/state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """`flood`: more changes a second than it can bring to a thousand readers. `turn`: how many it makes at most before
    its loop turns; eight for the peers, who gain nothing by more, and some of whom would take seconds over a turn."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    path: str = STREAM
    flood: int
    turn: int = 256
    nchan: bool = False

    def missing(self) -> str | None:
        """What has to be installed before this one can run, if anything."""
        if self.command[0] == "node" and not (HERE / "node_modules").exists():
            return "the packages of tests/benchmarks/peers"
        if self.nchan and not Path("/usr/lib/nginx/modules/ngx_nchan_module.so").exists():
            return "nginx with libnginx-mod-nchan"
        return None


SERVE: Final = (sys.executable, "-m", "statestream", "serve", f"{ADAPTERS / 'ours.py'}:app", "--port")
WITHOUT_UVLOOP: Final = "import sys; sys.modules['uvloop'] = None; from statestream.__main__ import main; main()"
ON_ASYNCIO: Final = (sys.executable, "-c", WITHOUT_UVLOOP, *SERVE[3:])
WITHOUT_RING: Final = (sys.executable, str(HERE.parents[1] / "support/without_io_uring.py"), *SERVE)


JOINING: Final = 30_000
PEERS_TURN: Final = 8


def ours(name: str, *, command: tuple[str, ...] = SERVE, **env: str) -> Server:
    return Server(name=name, command=(*command, "PORT"), env=env, path=f"{STREAM}?cause=full", flood=JOINING)


FLOOR: Final = (str(BUILT / "floor"),)
ALL: Final = {
    server.name: server
    for server in (
        Server(name="floor", command=FLOOR, flood=JOINING),
        ours("statestream"),
        ours("statestream-writes", command=WITHOUT_RING),
        ours("statestream-transport", HANDOFF="0"),
        ours("statestream-asyncio", command=ON_ASYNCIO),
        Server(name="better-sse", command=("node", str(ADAPTERS / "better_sse.mjs")), flood=300, turn=PEERS_TURN),
        Server(name="nchan", command=("nginx", "-c", "nginx.conf", "-p"), flood=500, nchan=True, turn=PEERS_TURN),
        Server(name="reference", command=("node", str(ADAPTERS / "reference.mjs")), flood=50, turn=PEERS_TURN),
        Server(name="naive", command=(sys.executable, str(ADAPTERS / "naive.py")), flood=10, turn=PEERS_TURN),
    )
}
"""`reference` compares the states for each connection, in Node; `naive` does so in Python."""
