"""What somebody may read of what they asked for, and what follows from their roles alone.

Most rules ask for a role, and views are for roles. So much of what one reader may see holds for everybody with the same
roles, and is worked out once for all of them.

Invariants: plain data. What is settled depends on nothing but roles and declarations: never on a subject, a claim, a
key or the state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from statestream.core.principal import Principal, Scope
from statestream.core.selection import Selection

MAX_ROLES: Final = 1_000
"""Sets of roles, and selections of one, for which answers are kept. Claims of tokens may have any number of them."""
MAX_GRANTS: Final = 100


class Answer(Struct, frozen=True, kw_only=True):
    """Whether a slice, a family or an instance may be read, and the names that the rule has asked the state for."""

    allowed: bool
    names: frozenset[str]


class Grant(Struct, frozen=True, kw_only=True):
    """What may be read of what was asked for.

    `answers` has, by name, the answers of rules that depend on the state, and `depends` the names whose changes may
    change them, each with the names of the answers. `families` are those whose new instances may add to the selection.
    """

    selection: Selection
    scope: Scope
    answers: Mapping[str, Answer] = {}
    depends: Mapping[str, Sequence[str]] = {}
    families: frozenset[str] = frozenset()

    @property
    def lasting(self) -> bool:
        """Whether no change of the state can change it."""
        return not self.answers and not self.families


class Settled:
    """What principals with the same roles may read and see.

    `readable` has the answers of rules that ask for nothing but roles, and `views` the numbers of the views, both by
    the names of slices. `grants` are those that follow from such answers only.
    """

    __slots__ = ("_grants", "readable", "views")

    def __init__(self) -> None:
        self.readable: dict[str, bool] = {}
        self.views: dict[str, int | None] = {}
        self._grants: dict[Selection, Grant] = {}

    def grant(self, asked: Selection) -> Grant | None:
        return self._grants.get(asked)

    def keep(self, asked: Selection, grant: Grant) -> None:
        if len(self._grants) >= MAX_GRANTS:
            self._grants.clear()
        self._grants[asked] = grant

    def clear(self) -> None:
        """Forgets all, because the declarations have changed."""
        self.readable.clear()
        self.views.clear()
        self._grants.clear()


class SettledRights:
    """What is settled, by roles."""

    def __init__(self) -> None:
        self._known: dict[tuple[bool, bool, frozenset[str] | None], Settled] = {}

    def of(self, principal: Principal) -> Settled:
        identity = principal.identity
        key = (principal.internal, principal.closed, None if identity is None else frozenset(identity.roles))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_ROLES:
                self._known.clear()
            found = self._known[key] = Settled()
        return found

    def clear(self) -> None:
        """Also for those who hold a part of it."""
        for each in self._known.values():
            each.clear()
