"""Whether a running server keeps the protocol's promises, asked from outside: `statestream conformance URL`.

`check_server` runs the checks against a server that offers an action to change something; each gives an `Outcome`. The
protocol's page has the promises, a check holds one of them and says in a sentence what broke it.

Law: black boxes only. Nothing here knows the store, the hub or the journal, or imports what a server is made of; it
asks over HTTP, applies what comes by rules of its own, stricter than a client's, and changes nothing but by the action
given.
"""

from __future__ import annotations

from statestream.conformance.check import Check, Outcome
from statestream.conformance.run import CHECKS, check_server

__all__ = ["CHECKS", "Check", "Outcome", "check_server"]
