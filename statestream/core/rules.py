"""Rules: who may read a slice, who may dispatch an action.

A rule is a plain function that returns True or False. Its parameters say what the answer depends on:

    def editors(identity): ...                    # the same for the whole slice, and as long as the identity is
    def own(identity, key): ...                   # another answer for each instance
    def members(identity, key, state): ...        # changes with the state: `state.get("team/7")` is a committed value

Invariants: a rule that raises, or returns anything but True or False, allows nothing, and the log says so. A rule never
changes a value that `state` gives it. What it asks `state` for is what its answer depends on, so it asks for nothing
else: it uses no clock, no network and no variable that changes.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol
from weakref import WeakSet

from msgspec import Struct

from statestream.core.functions import check_plain
from statestream.core.principal import Identity

log = logging.getLogger("statestream")

_BY_ROLE: Final[WeakSet[Callable[..., bool]]] = WeakSet()
"""The functions of this module that ask an identity for nothing but its roles."""
PARAMETERS: Final = ("identity", "key", "state")


class State(Protocol):
    """The committed state, as a rule sees it."""

    def get(self, name: str) -> Any:
        """The value of a slice (`team`) or an instance (`team/7`); None if it does not exist."""


class Rule(Struct, frozen=True, kw_only=True):
    """A function, and what its answer depends on besides the identity.

    `by_role`: of the identity it depends on the roles only, or on whether there is one.
    """

    function: Callable[..., bool]
    keyed: bool
    stateful: bool
    by_role: bool

    @classmethod
    def of(cls, function: Any, what: str) -> Rule:
        """`what` names the rule in messages. Raises TypeError for what cannot be a rule."""
        check_plain(function, what, "which returns True or False")
        try:
            names = tuple(inspect.signature(function).parameters)
        except ValueError:
            names = ()
        if not names or not set(names) <= set(PARAMETERS) or names != tuple(n for n in PARAMETERS if n in names):
            raise TypeError(
                f"expected {what} to have parameters out of identity, key and state, in this order, "
                f"got ({', '.join(names)})"
            )
        by_role = any(function is each for each in _BY_ROLE)
        return cls(function=function, keyed="key" in names, stateful="state" in names, by_role=by_role)

    def allows(self, identity: Identity | None, key: str | None, state: State) -> bool:
        """The answer. False if the function fails."""
        arguments: list[Any] = [key] if self.keyed else []
        if self.stateful:
            arguments.append(state)
        try:
            answer: Any = self.function(identity, *arguments)
        except Exception:
            log.exception("the rule %s raised; it allows nothing", _name(self.function))
            return False
        if type(answer) is bool:
            return answer
        log.error(
            "the rule %s returned %s, not True or False; it allows nothing", _name(self.function), type(answer).__name__
        )
        return False


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def anyone(identity: Identity | None) -> bool:
    """Allows everybody, also without an identity."""
    return True


def signed_in(identity: Identity | None) -> bool:
    """Allows everybody who has an identity."""
    return identity is not None


def role(*names: str) -> Callable[[Identity | None], bool]:
    """Returns a rule that allows identities with one of the roles."""
    wanted = frozenset(names)
    if not wanted or not all(isinstance(name, str) for name in names):
        raise TypeError('expected the names of roles, as in role("editor")')

    def has_role(identity: Identity | None) -> bool:
        return identity is not None and not wanted.isdisjoint(identity.roles)

    _BY_ROLE.add(has_role)
    return has_role


_BY_ROLE.update((anyone, signed_in))
