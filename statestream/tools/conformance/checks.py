"""What a check is: a promise of the protocol, and the outcome of checking it.

Invariants: plain data, the same for servers and clients. A broken promise is a sentence, not an exception.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from msgspec import Struct

from statestream.core.errors import Malformed


class Check(Struct, frozen=True, kw_only=True):
    """A promise that is checked. `section` is the heading of the protocol's page that it belongs to."""

    name: str
    section: str
    promise: str


class Outcome(Struct, frozen=True, kw_only=True):
    """The outcome of a check. `problem` is None if the promise was kept, else a sentence about what broke it.

    `note` says how much was checked, where that varies. `absent`: the server does not offer what the promise is about.
    """

    check: Check
    problem: str | None
    note: str | None = None
    absent: bool = False

    @property
    def passed(self) -> bool:
        """Whether the promise was kept."""
        return self.problem is None


C = TypeVar("C", bound=Check)


def select(checks: Sequence[C], only: Collection[str]) -> list[C]:
    """The checks with these names, in their own order; all of them if no name is given.

    Raises Malformed for an unknown name.
    """
    names = [check.name for check in checks]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise Malformed(f"unknown checks: {', '.join(unknown)}; the checks are {', '.join(names)}")
    return [check for check in checks if not only or check.name in only]
