"""`statestream transcripts`: the golden transcripts, for a client in any language to follow.

Invariants: arguments, messages and exit codes only; what is played and compared stands in the package `conformance`.
"""

from __future__ import annotations

from statestream.tools.commands.serving import Host, Port, serve
from statestream.tools.conformance.player import Player


def transcripts(host: Host = "127.0.0.1", port: Port = 8000) -> None:
    """Plays the golden transcripts to a client in any language, and says whether it does as they say.

    GET / begins a play and names each transcript's URL.
    The client follows URL/stream/state, and POSTs what it holds to URL.
    The answer says what it asked, and what is wrong.

    Exit code 0: you ended it. 1: the port is taken. 2: a wrong call.

    \b
    statestream transcripts --port 8001
    curl http://127.0.0.1:8001/
    curl http://127.0.0.1:8001/1/initial -d '{"state": {"board": {}}}'
    """  # noqa: D301  # a backspace: the lines below it stay lines
    serve(Player().app, host, port)
