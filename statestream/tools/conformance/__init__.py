"""Whether a server or a client keeps the protocol's promises, asked from outside.

`check_server` (`statestream conformance URL`) runs checks against a server that offers an action to change something.
The protocol's page has the promises, a check holds one of them and says in a sentence what broke it. `check_client`,
and `statestream transcripts` for other languages, play golden transcripts to a client. Both give an `Outcome` each.

Invariants: black boxes only. Nothing here knows the store, the hub or the journal, or imports what a server or a client
of ours is made of; a server is asked over HTTP, and what comes is applied by rules of its own, stricter than a
client's; it is changed by the action given and by nothing else.
"""

from __future__ import annotations

from statestream.tools.conformance.check import Check, Outcome, chosen
from statestream.tools.conformance.clients import Holding, check_client
from statestream.tools.conformance.run import CHECKS, check_server

__all__ = ["CHECKS", "Check", "Holding", "Outcome", "check_client", "check_server", "chosen"]
