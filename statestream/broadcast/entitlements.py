"""What subscribers may read of what they asked for, where that depends on the state.

A subscriber's group follows what it may read now. If a commit changes that, the subscriber moves to another group, and
is sent what leads from the one to the other. Subscribers with the same rights who asked for the same share an
entitlement, so a rule is evaluated once for all of them, when the state changes on which it depends.

The values on which a grant depends are held in memory. A commit may make it depend on values that are away: then the
entitlement is `unknown`, and its members follow nothing until somebody has fetched these and calls `settle`.

Invariants: synchronous. An entitlement exists while it has members, and all of them follow its grant. Between two
commits, its grant is what the rules say of the committed state, perhaps with the names of instances that were removed;
or it is unknown and allows nothing. No member is sent the id of a change, and then what was so before it: if rights
come and go within a commit, it is divided, or those whom it concerns are sent what all of it leads to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

from msgspec.structs import replace

from statestream.core.change import Change
from statestream.core.errors import TooLarge
from statestream.core.selection import Selection
from statestream.store.grant import Grant
from statestream.store.loaded import NotLoaded
from statestream.store.rights import NOTHING
from statestream.store.view import StoreView

AT_ONCE: Final = 1_000
"""Grants that are looked at more than once within a commit: a few milliseconds."""

M = TypeVar("M")
Key = tuple[bytes, Selection]


class Entitlement(Generic[M]):
    """`view` is the store as its members see it, `grant` what they may read now of `asked`.

    `too_large` says that their rights can no longer be evaluated, because there are too many instances; `unknown`, that
    values must be fetched first.
    """

    __slots__ = ("asked", "grant", "key", "members", "release", "too_large", "unknown", "view")

    def __init__(self, key: Key, view: StoreView, asked: Selection, grant: Grant) -> None:
        self.key, self.view, self.asked, self.grant = key, view, asked, grant
        self.members: dict[M, None] = {}
        self.too_large = False
        self.unknown = False
        self.release: Callable[[], None]
        """Of the values on which the grant depends."""


class Entitlements(Generic[M]):
    """All entitlements of one node, by the names on which they depend."""

    def __init__(self) -> None:
        self._known: dict[Key, Entitlement[M]] = {}
        self._by_name: dict[str, dict[Entitlement[M], None]] = {}
        self._by_family: dict[str, dict[Entitlement[M], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def granted(self, view: StoreView, asked: Selection) -> tuple[Grant, Entitlement[M] | None]:
        """What somebody may read who joins now, and their entitlement if that can change. Raises TooLarge."""
        grant: Grant | None = None
        with contextlib.suppress(NotLoaded):
            grant = view.grant(asked)
        if grant is not None and grant.lasting:
            return grant, None
        entitlement = self._of(view, asked, grant)
        return entitlement.grant, entitlement

    def _of(self, view: StoreView, asked: Selection, grant: Grant | None) -> Entitlement[M]:
        """The entitlement for somebody who was just granted this, or if it is not known what."""
        identity = view.principal.identity
        key = (b"" if identity is None else identity.rights(), asked)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Entitlement(key, view, asked, view.nothing(asked) if grant is None else grant)
            known.unknown = grant is None
            self._index(known)
        return known

    def settle(self, entitlement: Entitlement[M]) -> bool:
        """Finds out what an unknown grant is, and whether it is another one. Raises NotLoaded."""
        if not entitlement.unknown:
            return False
        grant = entitlement.view.grant(entitlement.asked)
        entitlement.unknown = False
        return self._replace(entitlement, grant)

    def leave(self, entitlement: Entitlement[M], member: M) -> None:
        """Counts one member less. An entitlement without members is forgotten."""
        entitlement.members.pop(member, None)
        if not entitlement.members and self._known.get(entitlement.key) is entitlement:
            del self._known[entitlement.key]
            self._unindex(entitlement)

    def parts(self, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
        """A commit in parts, each of which ends with a change that may change a grant: it may come and go within one.

        If looking at each takes too many evaluations, that is the whole commit. `changed_by` then takes grants that may
        have come and gone for changed.
        """
        concerned = [sum(map(len, self._concerned_by(change))) for change in changes]
        begin = 0
        if sum(concerned) - max(concerned) <= AT_ONCE:
            for end, change in enumerate(changes[:-1], 1):
                if any(self._concerned_by(change)):
                    yield changes[begin:end]
                    begin = end
        yield changes[begin:]

    def _concerned_by(self, change: Change) -> tuple[Mapping[Entitlement[M], None], ...]:
        """The entitlements whose grants a change may change: by the slice, and by the instance that comes or goes."""
        named = self._by_name.get(change.slice, {})
        if change.from_version and change.kind != "removed":
            return (named,)
        return named, self._by_family.get(change.slice.partition("/")[0], {})

    def changed_by(self, changes: Sequence[Change]) -> list[Entitlement[M]]:
        """Those whose grants changes that were just committed have changed. They have their new grants."""
        concerned: dict[Entitlement[M], set[str]] = {}
        grown: dict[Entitlement[M], None] = {}
        for change in changes:
            for each in self._by_name.get(change.slice, ()):
                concerned.setdefault(each, set()).add(change.slice)
            if change.from_version == 0 and "/" in change.slice:
                grown.update(self._by_family.get(change.slice.partition("/")[0], {}))
        for each, names in concerned.items():
            if each not in grown and not _still(each, names):
                grown[each] = None
        renewed = {each: None for each in grown if self._renew(each)}
        for change in changes[:-1]:  # of a commit that was not divided
            for concerned_by_it in self._concerned_by(change):
                renewed |= concerned_by_it
        return list(renewed)

    def renew_all(self) -> list[Entitlement[M]]:
        """The same after the state was replaced."""
        return [each for each in tuple(self._known.values()) if self._renew(each)]

    def _renew(self, entitlement: Entitlement[M]) -> bool:
        try:
            grant = entitlement.view.grant(entitlement.asked)
        except TooLarge:
            entitlement.too_large = True
            return True
        except NotLoaded:
            begins, entitlement.unknown = not entitlement.unknown, True
            return self._replace(entitlement, replace(entitlement.grant, selection=NOTHING)) or begins
        entitlement.unknown = False
        return self._replace(entitlement, grant)

    def _replace(self, entitlement: Entitlement[M], grant: Grant) -> bool:
        """Whether the members follow something else from now on."""
        before = entitlement.grant
        if grant == before:
            return False
        self._unindex(entitlement)
        entitlement.grant = grant
        self._index(entitlement)
        return grant.selection != before.selection

    def _index(self, entitlement: Entitlement[M]) -> None:
        entitlement.release = entitlement.view.hold(Selection(names=frozenset(entitlement.grant.depends)))
        for index, name in self._entries(entitlement):
            index.setdefault(name, {})[entitlement] = None

    def _unindex(self, entitlement: Entitlement[M]) -> None:
        entitlement.release()
        for index, name in self._entries(entitlement):
            del index[name][entitlement]
            if not index[name]:
                del index[name]

    def _entries(self, entitlement: Entitlement[M]) -> Iterator[tuple[dict[str, dict[Entitlement[M], None]], str]]:
        yield from ((self._by_name, name) for name in entitlement.grant.depends)
        yield from ((self._by_family, name) for name in entitlement.grant.families)


def _still(entitlement: Entitlement[M], changed: set[str]) -> bool:
    """Whether it is known that a grant is as it was."""
    try:
        return not entitlement.unknown and entitlement.view.still(entitlement.grant, changed)
    except NotLoaded:
        return False
