"""`statestream transcripts`: serves the golden transcripts, for a client in any language to follow.

Invariants: arguments, messages and exit codes only; `conformance/clients` plays and compares.
"""

from __future__ import annotations

from statestream.tools.conformance.clients.transcript_server import TranscriptServer
from statestream.tools.console import serving
from statestream.tools.console.options import Host, Insecure, Port


def transcripts(host: Host = "127.0.0.1", port: Port = 8000, insecure: Insecure = False) -> None:
    """Plays the golden transcripts to a client in any language, and reports whether it behaves as prescribed.

    GET / begins a play and returns the URL of each transcript.
    The client follows URL/stream/state, and POSTs the state it has to URL.
    The response contains the cursors it asked with, and what is wrong.

    Exit code 0: you ended it. 1: the port is in use. 2: invalid usage.

    \b
    statestream transcripts --port 8001
    curl http://127.0.0.1:8001/
    curl http://127.0.0.1:8001/1/initial -d '{"state": {"board": {}}}'
    """  # noqa: D301  # \b keeps the lines apart
    serving.serve(TranscriptServer().app, host, port, secure=insecure)
