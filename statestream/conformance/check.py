"""What a check is: a promise of the protocol's page, how it is tried, and what came of it.

Law: a broken promise is a Breach, with a sentence that says what was expected and what came; nothing else fails a
check.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from statestream.conformance.subject import Subject

Tried = Callable[["Subject"], Awaitable[None]]


class Breach(Exception):
    """The server did not keep the promise."""


class Check(Struct, frozen=True, kw_only=True):
    """`section` is a heading of the protocol's page, `promise` what is held. `tried` raises Breach."""

    name: str
    section: str
    promise: str
    tried: Tried


class Outcome(Struct, frozen=True, kw_only=True):
    """`problem` is None where the promise was kept."""

    check: Check
    problem: str | None

    @property
    def passed(self) -> bool:
        return self.problem is None


class Section:
    """The checks of one section, in order: `@section.check("promise")` over a function whose name is the check's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def check(self, promise: str) -> Callable[[Tried], Tried]:
        def add(tried: Tried) -> Tried:
            name = getattr(tried, "__name__", "").replace("_", "-")
            self.checks.append(Check(name=name, section=self.name, promise=promise, tried=tried))
            return tried

        return add


def expect(kept: object, sentence: str) -> None:
    """Raises Breach with the sentence unless `kept`."""
    if not kept:
        raise Breach(sentence)
