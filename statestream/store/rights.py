"""What a principal may read and dispatch: the rules of the slices, asked about the committed state.

Somebody asks for a selection, which names what they want, now and in the future. A grant is what they may read of it at
one position, and on what that depends: the names that rules have asked the state for. As long as none of these changes,
the grant holds. So a rule is evaluated when its state changes, never for each reader and change.

Invariants: pure. A slice that may not be read is treated as if it were not declared; an instance, as if it did not
exist. The rights to the past are those of now: somebody who may read a slice may read its history.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from statestream.core.errors import Forbidden, TooLarge
from statestream.core.names import split_name
from statestream.core.principal import Principal, Scope
from statestream.core.rules import State
from statestream.core.selection import Selection
from statestream.core.slices import Slice, check_declared
from statestream.store.grant import Answer, Grant, Settled
from statestream.store.loaded import NotLoaded
from statestream.store.registry import HandlerRegistry
from statestream.store.schemas import is_note

MAX_EVALUATED: Final = 10_000
"""Instances of one family for which a rule may be asked at once: some ten milliseconds."""

NOTHING: Final = Selection(names=frozenset())
ValueOf = Callable[[str], Any]
Instances = Mapping[str, Collection[str]]


class Observed:
    """The committed state for the evaluation of rules: `names` are those that they have asked for."""

    __slots__ = ("_value_of", "names")

    def __init__(self, value_of: ValueOf) -> None:
        self._value_of = value_of
        self.names: set[str] = set()

    def get(self, name: str) -> Any:
        self.names.add(name)
        return self._value_of(name)


class Known(Mapping[str, Slice]):
    """Those of some slices about which `knows` says so. It is asked once about each that is looked for."""

    __slots__ = ("_answers", "_knows", "_slices")

    def __init__(self, slices: Mapping[str, Slice], knows: Callable[[Slice], bool]) -> None:
        self._slices, self._knows = slices, knows
        self._answers: dict[str, bool] = {}

    def __getitem__(self, name: str) -> Slice:
        declared = self._slices[name]
        if name not in self._answers:
            self._answers[name] = self._knows(declared)
        if not self._answers[name]:
            raise KeyError(name)
        return declared

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._slices if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Rights:
    """The rules of a store for one principal."""

    __slots__ = ("_principal", "_registry", "_settled")

    def __init__(self, principal: Principal, registry: HandlerRegistry) -> None:
        self._principal, self._registry = principal, registry
        self._settled: Settled = registry.settled.of(principal)

    @property
    def unlimited(self) -> bool:
        """Whether no rule can deny this principal anything that is not hidden."""
        return self._principal.internal or not (self._principal.closed or self._registry.guarded)

    def may_read(self, declared: Slice, key: str | None, state: State) -> bool:
        if self._principal.internal:
            return True
        if declared.hidden:
            return False
        settled = self._settled.readable.get(declared.name)
        if settled is not None:
            return settled
        rule = self._registry.read_rule(declared)
        allowed = not self._principal.closed if rule is None else rule.allows(self._principal.identity, key, state)
        if rule is None or rule.by_role:
            self._settled.readable[declared.name] = allowed
        return allowed

    def readable(self, value_of: ValueOf) -> Mapping[str, Slice]:
        """The slices whose names may be known. A rule that depends on the key tells about instances only.

        The rules are asked about those slices that are looked for.
        """
        if self.unlimited:
            return self._registry.slices if self._principal.internal else self._registry.public
        state = Observed(value_of)
        return Known(self._registry.public, lambda declared: self._knows(declared, state))

    def standing(self) -> Mapping[str, Slice]:
        """The slices that may be readable at some time: what somebody asks for who asks for everything."""
        if self.unlimited:
            return self._registry.slices if self._principal.internal else self._registry.public
        return {name: each for name, each in self._registry.public.items() if self._may_become_readable(each)}

    def _may_become_readable(self, declared: Slice) -> bool:
        rule = self._registry.read_rule(declared)
        changing = rule is not None and (rule.keyed or rule.stateful)
        return changing or self.may_read(declared, None, Observed(_nothing))

    def grant(self, asked: Selection, instances: Instances, value_of: ValueOf) -> Grant:
        """What may be read of what was asked for.

        Raises TooLarge if that takes too many evaluations, and NotLoaded for all values at once that these need.
        """
        if self.unlimited:
            return Grant(selection=asked, scope=self._scope(asked))
        return self._settled.grant(asked) or self._granted(asked, instances, value_of)

    def _granted(self, asked: Selection, instances: Instances, value_of: ValueOf) -> Grant:
        answers: dict[str, Answer] = {}

        def allowed(name: str) -> bool:
            answer = self._answer(name, value_of)
            if answer.names:
                answers[name] = answer
            return answer.allowed

        away: set[str] = set()
        names = _among(asked.names, allowed, away)
        families, growing = set(), set()
        for family in asked.families:
            if self._grows(family):
                growing.add(family)
                names |= _among(_evaluable(family, instances), allowed, away)
            else:
                families |= _among((family,), allowed, away)
        if away:
            raise NotLoaded(away)
        depends: dict[str, list[str]] = {}
        for name, answer in answers.items():
            for other in answer.names:
                depends.setdefault(other, []).append(name)
        grant = Grant(
            selection=Selection(names=frozenset(names), families=frozenset(families)),
            scope=self._scope(asked),
            answers=answers,
            depends=depends,
            families=frozenset(growing),
        )
        if all(map(self._is_settled, asked.names | asked.families)):
            self._settled.keep(asked, grant)
        return grant

    def _is_settled(self, name: str) -> bool:
        """Whether nothing but roles and declarations decides who may read it."""
        declared = self._registry.slices.get(name.partition("/")[0])
        return declared is None or declared.hidden or declared.name in self._settled.readable

    def evaluations(self, asked: Selection, instances: Instances) -> int:
        """About how many names `grant` asks rules."""
        if self.unlimited:
            return 0
        families = (len(instances.get(each, ())) if self._grows(each) else 1 for each in asked.families)
        return len(asked.names) + sum(families)

    def nothing(self, asked: Selection) -> Grant:
        """The grant for as long as it is not known what may be read of what was asked for."""
        return Grant(selection=NOTHING, scope=self._scope(asked))

    def still(self, grant: Grant, changed: Iterable[str], value_of: ValueOf) -> bool:
        """Whether the answers that depend on changed slices are as they were."""
        concerned = {name for other in changed for name in grant.depends.get(other, ())}
        return all(self._answer(name, value_of) == grant.answers[name] for name in concerned)

    def _answer(self, name: str, value_of: ValueOf) -> Answer:
        state = Observed(value_of)
        allowed = self._reads(name, state)
        return Answer(allowed=allowed, names=frozenset(state.names))

    def reads(self, name: str, value_of: ValueOf) -> bool:
        """Whether a slice or instance may be read."""
        return self.unlimited or self._reads(name, Observed(value_of))

    def reads_whole(self, name: str, value_of: ValueOf) -> bool:
        """Whether a slice or instance may be read as it is, not through a view."""
        return self.reads(name, value_of) and self.view_of(name) is None

    def among(self, names: Iterable[str], value_of: ValueOf) -> set[str]:
        """Those that may be read. Raises NotLoaded for all values at once that are needed to know this."""
        if self.unlimited:
            return {name for name in names if not is_note(name)}
        away: set[str] = set()
        found = _among(names, lambda name: self.reads(name, value_of), away)
        if away:
            raise NotLoaded(away)
        return found

    def _reads(self, name: str, state: State) -> bool:
        family, _, key = name.partition("/")
        declared = self._registry.slices.get(family)
        return declared is not None and self.may_read(declared, key or None, state)

    def _grows(self, family: str) -> bool:
        """Whether each instance has rights of its own. A family may be one that is declared no more."""
        declared = self._registry.slices.get(family)
        return declared is not None and self._by_key(declared)

    def _by_key(self, declared: Slice) -> bool:
        rule = self._registry.read_rule(declared)
        return rule is not None and rule.keyed and not declared.hidden

    def _scope(self, asked: Selection) -> Scope:
        if self._principal.internal:
            return Scope()
        named = {name.partition("/")[0] for name in asked.names} | asked.families
        views = [(name, number) for name in sorted(named) if (number := self.view_of(name)) is not None]
        return Scope(guarded=not self.unlimited, views=tuple(views))

    def view_of(self, name: str) -> int | None:
        """The number of the view through which a slice is seen; None if it is seen as it is."""
        if self._principal.internal:
            return None
        family = name.partition("/")[0]
        if family in self._settled.views:
            return self._settled.views[family]
        declared = self._registry.slices.get(family)
        if declared is None:
            return None
        views, identity = enumerate(declared.views), self._principal.identity
        found = next((number for number, each in views if each.concerns(identity)), None)
        self._settled.views[family] = found
        return found

    def check_dispatch(self, action_type: str, key: str | None, value_of: ValueOf) -> Collection[str]:
        """Returns the names on which the right depends.

        Raises Forbidden, and UnknownAction where the caller may not even know the slice.
        """
        name = action_type.partition("/")[0]
        declared, state = self._registry.slices.get(name), Observed(value_of)
        if self._principal.internal or declared is None:
            return ()
        if not declared.internal and self._may_dispatch(declared, action_type, key, state):
            return state.names
        if not self._knows(declared, state):
            raise self._registry.unknown(action_type, self.tellable(value_of))
        if declared.internal:
            raise Forbidden(f"only the server changes {name}; clients cannot dispatch its actions")
        where = f"the {name} with this key" if declared.keyed else name
        raise Forbidden(f"you may not dispatch {action_type} to {where}")

    def check_erase(self, name: str, value_of: ValueOf) -> None:
        """Raises Forbidden, and UnknownSlice where the caller may not even know the slice, or it has no instances."""
        if self._principal.internal:
            return
        family, key = split_name(name)
        check_declared(self.readable(value_of), family, key, or_all=False)
        declared, state = self._registry.slices[family], Observed(value_of)
        if not (self.may_read(declared, key, state) and self._may_erase(declared, key, state)):
            raise Forbidden(f"you may not erase the {family} with this key")

    def _may_erase(self, declared: Slice, key: str | None, state: State) -> bool:
        if declared.erase is None:
            return not self._principal.closed and not declared.internal
        return declared.erase.allows(self._principal.identity, key, state)

    def _may_dispatch(self, declared: Slice, action_type: str, key: str | None, state: State) -> bool:
        rule = declared.dispatch_rule(action_type)
        if rule is None:
            return not self._principal.closed
        return rule.allows(self._principal.identity, key, state)

    def _knows(self, declared: Slice, state: State) -> bool:
        """Whether the caller may know that the slice is declared."""
        if declared.hidden or self.unlimited:
            return self.unlimited
        return self._by_key(declared) or self.may_read(declared, None, state)

    def tellable(self, value_of: ValueOf) -> Collection[str]:
        """The slices whose actions may be suggested: those that the caller may know, and change."""
        internal = self._principal.internal
        return {name for name in self.readable(value_of) if internal or not self._registry.slices[name].internal}


def _among(names: Iterable[str], allowed: Callable[[str], bool], away: set[str]) -> set[str]:
    """The allowed ones. Adds to `away` what is needed to know the rest."""
    found = set()
    for name in names:
        try:
            if allowed(name):
                found.add(name)
        except NotLoaded as missing:
            away |= missing.names
    return found


def _evaluable(family: str, instances: Instances) -> Collection[str]:
    """The instances of a family, unless there are too many. Raises TooLarge."""
    found = instances.get(family, ())
    if len(found) > MAX_EVALUATED:
        raise TooLarge(
            f"{family}/* has more than {MAX_EVALUATED:,} instances, each with rights of its own; name those that you "
            "follow"
        )
    return found


def _nothing(name: str) -> None:
    """No state."""
