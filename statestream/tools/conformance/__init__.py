"""Whether a server or a client keeps the protocol's promises, verified from outside.

    checks        a promise, and the outcome of checking it
    outcome_text  outcomes as lines and as JSON
    servers/      `check_server` and `statestream conformance URL`: checks against a running server
    clients/      `check_client` and `statestream transcripts`: golden transcripts, played to a client

Invariants: black boxes only. Nothing here imports what statestream's own server or client is made of. A server is
asked over HTTP, changed by the given action and nothing else, and its frames are applied by rules that are stricter
than a client's.
"""

from __future__ import annotations

from statestream.tools.conformance.checks import Check, Outcome
from statestream.tools.conformance.clients.check_client import ClientState, check_client
from statestream.tools.conformance.servers.check_server import CHECKS, check_server

__all__ = ["CHECKS", "Check", "ClientState", "Outcome", "check_client", "check_server"]
