"""The handlers that an action reaches.

Invariants: made once, from declarations. It holds no state and decides nothing about who may dispatch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from statestream.core.change import Action
from statestream.core.errors import Malformed, UnknownAction
from statestream.core.names import check_name
from statestream.core.rules import Rule
from statestream.core.slices import ActionCreator, Handler, Slice, needs_key
from statestream.core.suggestions import instead, named
from statestream.store.grant import SettledRights
from statestream.store.schemas import NOTES


class HandlerRegistry:
    """The slices of a store by name, and the handlers of each action in the order of the slices.

    `public` has the slices that are not hidden. `hides` says whether any is hidden, beside that of the notes of
    versions, which is not a part of everything. `guarded` says whether any slice has a rule or a view, `viewed` whether
    any has a view. `renamed` has slices by an earlier name. `removed` are names that the journal may still have, and
    that are to be removed from the state. `settled` is what follows from the declarations for the roles of readers.
    """

    def __init__(self, slices: Iterable[Slice], removed: Collection[str] = ()) -> None:
        self.slices: dict[str, Slice] = {}
        self.renamed: dict[str, Slice] = {}
        self.removed = _names(removed)
        self._handlers: dict[str, list[Handler]] = {}
        self._read: dict[str, Rule] = {}
        self.settled = SettledRights()
        self.add(_slices(slices))

    def add(self, slices: Iterable[Slice]) -> None:
        """Adds slices. Raises ValueError if a name is taken, or an action that they handle is not declared."""
        for declared in slices:
            if declared.name in self.slices:
                raise ValueError(f"expected each slice once, got {declared.name!r} twice; names must differ")
            self.slices[declared.name] = declared
            declared.upgrades.check()
            if declared.upgrades.version > 1:
                self.slices.setdefault(NOTES.name, NOTES)
            for handler in declared.handlers:
                self._handlers.setdefault(handler.action_type, []).append(handler)
        self.public = {name: declared for name, declared in self.slices.items() if not declared.hidden}
        self.hides = any(each.hidden for each in self.slices.values() if each is not NOTES)
        self.gradual = frozenset().union(*(each.gradual for each in self.slices.values()))
        """The types of the gradual actions."""
        self.viewed = any(each.views for each in self.slices.values())
        self.guarded = bool(self._read) or any(each.guarded for each in self.slices.values())
        self.settled.clear()
        self.renamed = {each.was: each for each in self.slices.values() if each.was is not None}
        for name in (*self.renamed, *self.removed):
            if name in self.slices:
                raise ValueError(f"expected a name that no slice has any more in `was` and `removed`, got {name}")
        for action_type, handlers in self._handlers.items():
            self._check(action_type, handlers)

    @property
    def departed(self) -> frozenset[str]:
        """The slices that are removed from the state, or have another name now."""
        return self.removed | self.renamed.keys()

    def guard(self, declared: Slice, read: Callable[..., bool]) -> None:
        """Sets who may read a slice in this store, whatever the slice itself says. Raises TypeError."""
        self._read[declared.name] = declared.rule(read, "read")
        self.guarded = True
        self.settled.clear()

    def read_rule(self, declared: Slice) -> Rule | None:
        """Who may read a slice; None if there is no rule."""
        return self._read.get(declared.name, declared.read)

    def _check(self, action_type: str, handlers: Iterable[Handler]) -> None:
        declared = self.slices.get(action_type.partition("/")[0])
        if declared is None or all(handler.slice is not declared for handler in handlers):
            who, name = ", ".join(handler.slice.name for handler in handlers), action_type.partition("/")[0]
            own = [each.action_type for each in declared.handlers if each.slice is declared] if declared else []
            known = [each for each in own if each != action_type] or [n for n in self.slices if n != name]
            raise ValueError(
                f"expected the slice that declares {action_type} among the store's slices, because {who} handles it"
                f"{instead(action_type if own else name, known, 'actions' if own else 'slices')}"
            )
        for handler in handlers:
            if handler.slice.keyed and not declared.keyed and handler.key_of is None:
                raise ValueError(
                    f"expected `key=` where {handler.slice.name} handles {action_type}, which has no key: "
                    f"@{handler.slice.name}.on(…, key=…) selects the {handler.slice.name}/<key> that it concerns"
                )

    def handlers(self, action: Action, tellable: Collection[str] | None = None) -> list[Handler]:
        """The handlers of an action. Raises UnknownAction, and Malformed if key and slice do not go together.

        `tellable` are the slices whose actions may be suggested; None for all of them.
        """
        found = self._handlers.get(action.type)
        if found is None:
            raise self.unknown(action.type, self.slices if tellable is None else tellable)
        declared = self.slices[action.type.partition("/")[0]]
        if declared.keyed and action.key is None:
            raise Malformed(needs_key(action.type, declared))
        if not declared.keyed and action.key is not None:
            raise Malformed(f"{action.type} takes no key, because {declared.name} is a plain slice; leave out `key`")
        return found

    def targets(self, actions: Iterable[Action]) -> Iterator[str]:
        """The instances that these actions concern, as far as that can be known before they run."""
        for action in actions:
            for handler in self._handlers.get(action.type, ()):
                if handler.slice.keyed:
                    key = action.key if handler.key_of is None else _key_of(handler.key_of, action)
                    yield f"{handler.slice.name}/{key}"

    def actions(self, tellable: Collection[str]) -> list[Handler]:
        """The handlers that declare the actions of these slices."""
        own = ((each, handler) for each in self.slices.values() for handler in each.handlers if each.name in tellable)
        return [handler for each, handler in own if handler.action_type.partition("/")[0] == each.name]

    def unknown(self, action_type: str, tellable: Collection[str]) -> UnknownAction:
        """The error for an action that is not declared, or that the caller may not know. Suggests others."""
        known = [each for each in self._handlers if each.partition("/")[0] in tellable]
        name, slash, short = action_type.partition("/")
        own = {each.partition("/")[2]: each for each in known if each.startswith(f"{name}/")}
        if own and slash:
            return UnknownAction(f"{name} has no action{named(action_type)}{instead(short, own, 'actions', own)}")
        what = "" if slash else " (a type is a slice, a slash and a name)"
        return UnknownAction(f"there is no action{named(action_type)}{what}{instead(action_type, known, 'actions')}")


def _names(given: Any) -> frozenset[str]:
    """Raises TypeError, Malformed."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError('expected the names of slices as a list, such as removed=["board"]')
    return frozenset(check_name(name) for name in given)


def _key_of(function: Callable[[Action], str | None], action: Action) -> str | None:
    """What is wrong with an action is found out when it runs."""
    try:
        return function(action)
    except Exception:
        return None


def _slices(given: Any) -> Sequence[Slice]:
    """The slices of a store. Raises TypeError for anything else; the message shows the correct form."""
    if isinstance(given, Slice):
        raise TypeError(f"expected a list of slices, got one slice: write Store([{given.name}])")
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise TypeError(f"expected a list of slices, such as Store([board, room]), got {type(given).__name__}")
    slices = list(given)
    for each in slices:
        if isinstance(each, Slice):
            continue
        hint = ""
        if isinstance(each, ActionCreator):
            hint = f": pass {each.slice.name}, the slice that declares {each.type}"
        elif isinstance(getattr(each, "slices", None), Iterable):
            hint = ": pass its slices, as in Store([*chat.slices])"
        raise TypeError(f"expected slices, got {type(each).__name__}{hint}")
    return slices
