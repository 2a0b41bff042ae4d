"""Whether a server or a client keeps the protocol's promises, verified from outside.

    checks          a promise, and the outcome of checking it
    violation       a broken promise, as an exception with a sentence
    strict_replica  what a subscriber has, and every rule that a frame can break
    outcome_text    outcomes as lines and as JSON
    servers/        `check_server` and `statestream conformance URL`: checks against a running server
    chats/          `check_chat` and `statestream conformance --chat URL`: clients of a chat that are cut anywhere
    clients/        `check_client` and `statestream transcripts`: golden transcripts, played to a client

Invariants: black boxes only. Nothing here imports what statestream's own server or client is made of. A server is
asked over HTTP, changed by the given action, or by questions in new chats, and by nothing else. Its frames are applied
by rules that are stricter than a client's.
"""

from __future__ import annotations

from statestream.tools.conformance.chats.check_chat import check_chat
from statestream.tools.conformance.checks import Check, Outcome
from statestream.tools.conformance.clients.check_client import ClientState, check_client
from statestream.tools.conformance.servers.check_server import CHECKS, check_server

__all__ = ["CHECKS", "Check", "ClientState", "Outcome", "check_chat", "check_client", "check_server"]
