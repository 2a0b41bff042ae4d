"""What a check is: a promise of the protocol's page, how it is tried, and what came of it.

Invariants: a broken promise is a Breach, with a sentence that says what was expected and what came; nothing else fails
a check.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from statestream.core.errors import Malformed

if TYPE_CHECKING:
    from statestream.tools.conformance.subject import Subject

Tried = Callable[["Subject"], Awaitable[None]]


class Breach(Exception):
    """The server did not keep the promise."""


class Check(Struct, frozen=True, kw_only=True):
    """A promise that is held to. `section` is the heading on the protocol's page that it stands under."""

    name: str
    section: str
    promise: str


class Trial(Check, frozen=True, kw_only=True):
    """A check of a server. `tried` raises Breach."""

    tried: Tried


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a check. `problem` is None where the promise was kept, else a sentence that says what broke it."""

    check: Check
    problem: str | None

    @property
    def passed(self) -> bool:
        """Whether the promise was kept."""
        return self.problem is None


class Section:
    """The checks of one section, in order: `@section.check("promise")` over a function whose name is the check's."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Trial] = []

    def check(self, promise: str) -> Callable[[Tried], Tried]:
        def add(tried: Tried) -> Tried:
            name = getattr(tried, "__name__", "").replace("_", "-")
            self.checks.append(Trial(name=name, section=self.name, promise=promise, tried=tried))
            return tried

        return add


Some = TypeVar("Some", bound=Check)


def chosen(checks: Sequence[Some], only: Collection[str]) -> list[Some]:
    """Those that are named, in their own order; all where none is. Raises Malformed for an unknown name."""
    names = [check.name for check in checks]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise Malformed(f"expected names of checks, got {', '.join(unknown)}; there are {', '.join(names)}")
    return [check for check in checks if not only or check.name in only]


def expect(kept: object, sentence: str) -> None:
    """Raises Breach with the sentence unless `kept`."""
    if not kept:
        raise Breach(sentence)
