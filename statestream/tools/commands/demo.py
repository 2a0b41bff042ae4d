"""`statestream demo`: serves a chat and a board to try.

Invariants: arguments, messages and exit codes only; `tools/demo.py` has the application.
"""

from __future__ import annotations

from typing import Annotated

import typer

from statestream.tools.console import serving
from statestream.tools.console.options import Host, Insecure, Port


def demo(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    journal: Annotated[str, typer.Option(help="Where to keep the changes.")] = "sqlite:///statestream-demo.db",
    insecure: Insecure = False,
) -> None:
    """Serves a chat, and a board beside it, with a page for both. OPENAI_API_KEY selects a real model.

    Exit code 0: you ended it. 1: it cannot be served. 2: invalid usage.

    \b
    statestream demo
    statestream demo --port 9000 --journal memory:
    OPENAI_API_KEY=… STATESTREAM_MODEL=gpt-5-mini statestream demo
    """  # noqa: D301  # \b keeps the lines apart
    from statestream.tools.demo import demo_app  # here, because it imports the chat, which no other command needs

    serving.serve(demo_app(journal), host, port, secure=insecure)
