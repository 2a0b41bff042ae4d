"""A check of a server: a promise, and the function that tries to break it.

Invariants: a check is a function whose name is the check's name. It raises Violation, or the promise was kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from statestream.tools.conformance.checks import Check
from statestream.tools.conformance.servers.server_under_test import ServerUnderTest

CheckFunction = Callable[[ServerUnderTest], Awaitable[None]]


class ServerCheck(Check, frozen=True, kw_only=True):
    """A check whose `verify` raises Violation if the promise is broken."""

    verify: CheckFunction


class Section:
    """The checks of a section, in order: `@section.check("promise")` registers a function."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[ServerCheck] = []

    def check(self, promise: str) -> Callable[[CheckFunction], CheckFunction]:
        def register(verify: CheckFunction) -> CheckFunction:
            name = getattr(verify, "__name__", "").replace("_", "-")
            self.checks.append(ServerCheck(name=name, section=self.name, promise=promise, verify=verify))
            return verify

        return register
