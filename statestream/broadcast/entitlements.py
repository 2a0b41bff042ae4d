"""What subscribers may read of what they asked for, where that depends on the state.

A subscriber's group follows what it may read now. If a commit changes that, the subscriber moves to another group, and
is sent what leads from the one to the other. Subscribers with the same rights who asked for the same share an
entitlement, so a rule is evaluated once for all of them, when the state changes on which it depends.

Invariants: synchronous. An entitlement exists while it has members, and all of them follow its grant. Between two
commits, its grant is what the rules say of the committed state, perhaps with the names of instances that were removed.
No member is sent the id of a change, and then what was so before it: if rights come and go within a commit, it is
divided, or those whom it concerns are sent what all of it leads to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

from statestream.core.change import Change
from statestream.core.errors import TooLarge
from statestream.core.selection import Selection
from statestream.store.rights import Grant
from statestream.store.view import StoreView

AT_ONCE: Final = 1_000
"""Grants that are looked at more than once within a commit: a few milliseconds."""

M = TypeVar("M")
Key = tuple[bytes, Selection]


class Entitlement(Generic[M]):
    """`view` is the store as its members see it, `grant` what they may read now of `asked`.

    `too_large` says that their rights can no longer be evaluated, because there are too many instances.
    """

    __slots__ = ("asked", "grant", "key", "members", "too_large", "view")

    def __init__(self, key: Key, view: StoreView, asked: Selection, grant: Grant) -> None:
        self.key, self.view, self.asked, self.grant = key, view, asked, grant
        self.members: dict[M, None] = {}
        self.too_large = False


class Entitlements(Generic[M]):
    """All entitlements of one node, by the names on which they depend."""

    def __init__(self) -> None:
        self._known: dict[Key, Entitlement[M]] = {}
        self._by_name: dict[str, dict[Entitlement[M], None]] = {}
        self._by_family: dict[str, dict[Entitlement[M], None]] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def of(self, view: StoreView, asked: Selection, grant: Grant) -> Entitlement[M]:
        """The entitlement for somebody who was just granted this, and joins it now."""
        identity = view.principal.identity
        key = (b"" if identity is None else identity.rights(), asked)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Entitlement(key, view, asked, grant)
            self._index(known)
        return known

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
            if each not in grown and not each.view.still(each.grant, names):
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
        before = entitlement.grant
        try:
            grant = entitlement.view.grant(entitlement.asked)
        except TooLarge:
            entitlement.too_large = True
            return True
        if grant == before:
            return False
        self._unindex(entitlement)
        entitlement.grant = grant
        self._index(entitlement)
        return grant.selection != before.selection

    def _index(self, entitlement: Entitlement[M]) -> None:
        for index, name in self._entries(entitlement):
            index.setdefault(name, {})[entitlement] = None

    def _unindex(self, entitlement: Entitlement[M]) -> None:
        for index, name in self._entries(entitlement):
            del index[name][entitlement]
            if not index[name]:
                del index[name]

    def _entries(self, entitlement: Entitlement[M]) -> Iterator[tuple[dict[str, dict[Entitlement[M], None]], str]]:
        yield from ((self._by_name, name) for name in entitlement.grant.depends)
        yield from ((self._by_family, name) for name in entitlement.grant.families)
