"""Slices, and the actions that change them.

A decorated handler becomes a typed action creator: calling it checks the arguments against the handler's annotations
and returns an Action. The store runs the handler itself when it applies the action.

Invariants: declarations only. Nothing here holds state or uses the store. Type checkers know the value of a slice by
`Slice[T]`; a slice without a type is a `Slice[Any]`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, get_type_hints, overload

import orjson
from msgspec import Struct
from typing_extensions import TypedDict, TypeVar, Unpack

from statestream.core.change import Action, Removed
from statestream.core.errors import InvalidValue, Malformed, NotJSON, UnknownSlice
from statestream.core.functions import check_plain
from statestream.core.names import check_key, check_name
from statestream.core.principal import Identity
from statestream.core.rules import Rule
from statestream.core.signature import Signature
from statestream.core.suggestions import instead, named
from statestream.core.upgrades import Upgrade, Upgrades
from statestream.core.value_type import ValueType
from statestream.core.values import plain

T = TypeVar("T", default=Any)
V = TypeVar("V")
P = ParamSpec("P")
KeyOf = Callable[[Action], str | None]
"""Returns the key of the instance that an action of another slice concerns; None if it concerns none."""


class Handler(Struct, frozen=True, kw_only=True):
    """How one slice handles one type of action."""

    slice: Slice
    action_type: str
    function: Callable[..., object]
    signature: Signature
    key_of: KeyOf | None

    def target(self, action: Action) -> str | None:
        """The full name of the slice or instance that the action concerns; None if there is none. Raises Malformed."""
        if not self.slice.keyed:
            return self.slice.name
        key = action.key
        if self.key_of is not None and (key := self.key_of(action)) is None:
            return None
        if key is None:
            raise Malformed(needs_key(self.action_type, self.slice))
        return f"{self.slice.name}/{check_key(key)}"


def needs_key(action_type: str, declared: Slice) -> str:
    """The sentence for an action without the key that it needs."""
    return f"{action_type} needs a key, because {declared.name} is a keyed slice: the key selects {declared.name}/<key>"


class ActionCreator(Generic[P]):
    """Makes actions of one type: `task_added(id="1", title="Ship it")`. For keyed slices, the key comes first."""

    def __init__(self, owner: Slice, action_type: str, function: Callable[..., object], signature: Signature) -> None:
        self.slice, self.type, self.signature = owner, action_type, signature
        self.__name__, self.__doc__ = function.__name__, function.__doc__

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Action: ...
    @overload
    def __call__(self, key: str, /, *args: P.args, **kwargs: P.kwargs) -> Action: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Action:  # type: ignore[misc]  # mypy loses Concatenate here
        """Returns the action. Raises InvalidPayload if the arguments do not fit, Malformed for a bad key."""
        expected = 1 if self.slice.keyed else 0
        if len(args) != expected:
            raise TypeError(
                f"expected {'the key and then ' if expected else ''}named arguments for {self.type}, "
                f"got {len(args)} positional ones"
            )
        return Action(type=self.type, payload=self.signature.dump(kwargs), key=check_key(args[0]) if args else None)

    def __repr__(self) -> str:
        return f"<action {self.type}>"


class View(Struct, frozen=True, kw_only=True):
    """What some readers see in place of a slice's value. No roles: everybody. `shows` is the type of it, if known."""

    function: Callable[[Any], Any]
    roles: frozenset[str]
    shows: ValueType | None = None

    def concerns(self, identity: Identity | None) -> bool:
        return not self.roles or (identity is not None and not self.roles.isdisjoint(identity.roles))


class _Declare(Protocol[T]):
    """What `@slice.action(…)` with options returns."""

    @overload
    def __call__(self, handler: Callable[Concatenate[T, Action, P], T | Removed | None], /) -> ActionCreator[P]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[T, P], T | Removed | None], /) -> ActionCreator[P]: ...


class _DeclareOther(Protocol[T]):
    """What `@slice.on(…)` returns."""

    def __call__(
        self, handler: Callable[Concatenate[T, P], T | Removed | None], /
    ) -> Callable[Concatenate[T, P], T | Removed | None]: ...


class _Options(TypedDict, total=False):
    """What a slice may have, whatever its type."""

    validate: bool
    keyed: bool
    internal: bool
    hidden: bool
    read: Callable[..., bool] | None
    dispatch: Callable[..., bool] | None
    erase: Callable[..., bool] | None
    version: int
    was: str | None


class Slice(Generic[T]):
    """A named part of the state, the handlers that change it, and the rules about who may do what.

    `initial` is the JSON value that the slice begins with (if it is keyed: each instance). `keyed=True` makes it a
    family of instances `name/key`, which their first action creates. `internal=True` reserves its actions for the
    server's own code: POST /dispatch answers them with 403. `hidden=True` keeps the slice from clients: to them it does
    not exist in any snapshot, stream, history or answer. Only the server's own code can read it.

    `read` and `dispatch` are rules: who may read the slice, and who may dispatch its actions, unless an action has a
    rule of its own. Without rules, everybody may, or, if the server authenticates, nobody.

    `erase` is the rule about who may erase an instance over HTTP. Without it, everybody may, unless the slice is
    `internal`; or, if the server authenticates, nobody.

    `version` grows by one whenever the shape of the value changes; `upgrade` then declares how. `was` is an earlier
    name of the slice, under which a journal may still have it.

    `type` is the type of the value: a TypedDict, a dataclass, a Struct, a Pydantic model, or anything else that can be
    read from JSON. Type checkers know it then, and so do the documents for programs. With `validate=True`, an action
    whose handler leaves a value of another type fails.
    """

    @overload
    def __init__(self, name: str, *, initial: Any, type: type[T], **options: Unpack[_Options]) -> None: ...
    @overload  # no class, such as int | None: annotate the variable, Slice[int | None]
    def __init__(self, name: str, *, initial: Any, type: Any = None, **options: Unpack[_Options]) -> None: ...
    def __init__(
        self,
        name: str,
        *,
        initial: Any,
        type: Any = None,
        validate: bool = False,
        keyed: bool = False,
        internal: bool = False,
        hidden: bool = False,
        read: Callable[..., bool] | None = None,
        dispatch: Callable[..., bool] | None = None,
        erase: Callable[..., bool] | None = None,
        version: int = 1,
        was: str | None = None,
    ) -> None:
        self.name, self.keyed, self.internal, self.hidden = check_name(name), keyed, internal, hidden
        self.upgrades, self.was = Upgrades(name, version), None if was is None else check_name(was)
        if validate and type is None:
            raise TypeError(
                f"expected `validate` with `type` only: {name} has no type that a value could be checked by"
            )
        self.type = None if type is None else ValueType(type, f"the value of {name}")
        self.validate = self.type is not None and validate and self.type.plain
        """Whether the store has to check values. Objects are checked as JSON is made of them."""
        try:
            self.initial = plain(initial) if self.type is None else self.type.first(initial)
        except NotJSON as error:
            raise NotJSON(f"{error.problem} (in the initial value of the slice {name})", error.place) from None
        except InvalidValue as error:
            raise ValueError(f"in `initial` of the slice {name}: {error}") from None
        self.handlers: list[Handler] = []
        self.views: list[View] = []
        self.read = None if read is None else self.rule(read, "read")
        self._dispatch = None if dispatch is None else self.rule(dispatch, "dispatch")
        self._dispatch_of: dict[str, Rule] = {}
        self.gradual: set[str] = set()
        """The types of its gradual actions."""
        if erase is not None and not keyed:
            raise TypeError(f"expected `erase` with a keyed slice only: {name} has no instances that could be erased")
        self.erase = None if erase is None else self.rule(erase, "erase")

    def rule(self, function: Callable[..., bool], what: str) -> Rule:
        """A function as a rule of this slice. Raises TypeError."""
        rule = Rule.of(function, f"the rule `{what}` of {self.name}")
        if rule.keyed and not self.keyed:
            raise TypeError(f"the rule `{what}` of {self.name} has the parameter key, but {self.name} has no instances")
        return rule

    @property
    def guarded(self) -> bool:
        """Whether it has a rule or a view."""
        return bool(self.read or self._dispatch or self._dispatch_of or self.views)

    def dispatch_rule(self, action_type: str) -> Rule | None:
        """Who may dispatch one of its actions; None if there is no rule."""
        return self._dispatch_of.get(action_type, self._dispatch)

    @property
    def checked(self) -> bool:
        """Whether every new value fits the type: because that was asked for, or because it was made of an object."""
        return self.type is not None and (self.validate or not self.type.plain)

    def of(self, value: Any) -> T:
        """What a program sees of a plain value of the slice. Raises InvalidValue."""
        seen: T = value if self.type is None else self.type.of(value)
        return seen

    def load(self, data: bytes) -> T:
        """The same of the JSON of a value, and shared with nobody."""
        loaded: T = orjson.loads(data) if self.type is None else self.type.load(data)
        return loaded

    def seen(self, number: int | None) -> ValueType | None:
        """The type of what a view shows, by its number; without one, of the value itself. None if it is not known."""
        return self.type if number is None else self.views[number].shows

    @overload
    def action(self, handler: Callable[Concatenate[T, Action, P], T | Removed | None]) -> ActionCreator[P]: ...
    @overload
    def action(self, handler: Callable[Concatenate[T, P], T | Removed | None]) -> ActionCreator[P]: ...
    @overload
    def action(self, *, dispatch: Callable[..., bool] | None = None, gradual: bool = False) -> _Declare[T]: ...
    def action(self, handler: Any = None, *, dispatch: Callable[..., bool] | None = None, gradual: bool = False) -> Any:
        """Declares the handler of the action `<slice>/<function name>`, and returns the action creator.

        `@slice.action(dispatch=rule)` also says who may dispatch the action. `gradual=True` declares it as one of many
        small steps, such as the next words of a text, of which nobody needs to know each one for long: the journal does
        not keep its payload, and folds its changes into one after a while.
        """
        if dispatch is None and not gradual:
            return self._action(handler)
        rule = None if dispatch is None else self.rule(dispatch, "dispatch")

        def declare(handler: Any) -> ActionCreator[...]:
            creator = self._action(handler)
            if rule is not None:
                self._dispatch_of[creator.type] = rule
            if gradual:
                self.gradual.add(creator.type)
            return creator

        return declare

    def _action(self, handler: Any) -> ActionCreator[...]:
        _check_handler(handler, f"@{self.name}.action")
        action_type = f"{self.name}/{handler.__name__}"
        signature = self._add(action_type, handler, key_of=None, ignore_extra=False)
        return ActionCreator(self, action_type, handler, signature)

    def upgrade(self, version: int) -> Callable[[Upgrade], Upgrade]:
        """Declares how a value of the version before becomes one of this version: a pure function of it.

        The function changes a draft or returns the new value, as a handler does. Raises TypeError, ValueError.
        """

        def declare(function: Upgrade) -> Upgrade:
            self.upgrades.add(version, function)
            return function

        return declare

    def view(self, *roles: str) -> Callable[[Callable[[T], V]], Callable[[T], V]]:
        """Declares what identities with one of the roles see in place of the value: a pure function of it.

        Without roles, everybody sees it who may read the slice. The first view that is declared for a reader counts. A
        reader of a view does not receive the payloads of actions.
        """
        if not all(isinstance(role, str) for role in roles):
            raise TypeError(f'expected the names of roles, as in @{self.name}.view("viewer")')

        def declare(function: Callable[[T], V]) -> Callable[[T], V]:
            check_plain(function, f"the view of {self.name}", "which returns what is seen")
            self.views.append(self._view(function, frozenset(roles)))
            return function

        return declare

    def _view(self, function: Callable[[Any], Any], roles: frozenset[str]) -> View:
        """Annotations count for slices with a type only: others may have them for readers."""
        kind = self.type
        shows = None if kind is None else _shown(function, f"what a view of {self.name} shows")
        if kind is None or (kind.plain and (shows is None or shows.plain)):
            return View(function=function, roles=roles, shows=shows)

        @functools.wraps(function)
        def showing(value: Any) -> Any:
            result = function(kind.of(value))
            return result if shows is None else shows.dump(result)

        return View(function=showing, roles=roles, shows=shows)

    def on(self, other: ActionCreator[...] | str, *, key: KeyOf | None = None) -> _DeclareOther[T]:
        """Declares how this slice handles another slice's action.

        The handler names only the payload fields that it needs. `key` returns the instance of a keyed slice; without
        it, the action's own key is used.
        """
        if not isinstance(other, (str, ActionCreator)):
            raise TypeError(
                f"expected an action or its type in @{self.name}.on(…), such as @{self.name}.on(task_added), "
                f"got {type(other).__name__}"
            )
        action_type = other if isinstance(other, str) else other.type

        def declare(handler: Any) -> Any:
            _check_handler(handler, f"@{self.name}.on({action_type})", named=False)
            self._add(action_type, handler, key_of=key, ignore_extra=True)
            return handler

        return declare

    def _add(
        self, action_type: str, function: Callable[..., object], *, key_of: KeyOf | None, ignore_extra: bool
    ) -> Signature:
        check_plain(
            function, f"the handler of {action_type}", "which changes the draft or returns a value; do I/O before"
        )
        if key_of is not None:
            check_plain(key_of, f"the key of {action_type}", "which returns the key")
        if any(handler.action_type == action_type for handler in self.handlers):
            raise ValueError(f"{self.name} handles {action_type} already")
        signature = Signature(function, action_type, ignore_extra=ignore_extra)
        if self.type is not None:
            function = self.type.handling(function)
        self.handlers.append(
            Handler(slice=self, action_type=action_type, function=function, signature=signature, key_of=key_of)
        )
        return signature

    def __repr__(self) -> str:
        return f"Slice({self.name!r}{', keyed=True' if self.keyed else ''})"


def _shown(function: Callable[[Any], Any], what: str) -> ValueType | None:
    """The type of what a view shows, from its annotation; None if that says nothing. Raises TypeError."""
    try:
        shown = get_type_hints(function, include_extras=True).get("return", Any)
    except (NameError, TypeError):  # it has none, or names what only type checkers know
        return None
    return None if shown in (Any, object) else ValueType(shown, what)


def _check_handler(handler: Any, decorator: str, *, named: bool = True) -> None:
    """Raises TypeError for anything that cannot be a handler. The message shows the correct form."""
    if isinstance(handler, ActionCreator):
        raise TypeError(f"{decorator}: {handler.type} is an action already; @<slice>.on({handler.__name__}) handles it")
    if not callable(handler):
        got = "" if handler is None else f", got {type(handler).__name__}"
        raise TypeError(f"write {decorator} without parentheses, on the line above the handler{got}")
    if named and not getattr(handler, "__name__", "").isidentifier():
        raise TypeError(f"{decorator}: the handler's name becomes that of the action, so declare it with def")


def full_name_of(name: str | Slice[Any], key: str | None) -> str:
    """The name of a slice, or of the instance with a key; a name without a key is one. Raises TypeError, Malformed."""
    if isinstance(name, str):
        if key is not None:
            raise TypeError("expected a key with a slice only; write the full name of an instance, such as room/42")
        return name
    if name.keyed and key is None:
        raise TypeError(f"expected a key beside {name.name}, which is a keyed slice, as in get({name.name}, '42')")
    if key is not None and not name.keyed:
        raise TypeError(f"expected {name.name} without a key, because it is a plain slice")
    return name.name if key is None else f"{name.name}/{check_key(key)}"


def check_declared(slices: Mapping[str, Slice], name: str, key: str | None, *, or_all: bool = True) -> None:
    """Raises UnknownSlice unless one of the slices has that name, and is keyed exactly if there is a key.

    `or_all`: whether all instances could have been named as well.
    """
    declared = slices.get(name)
    if declared is None:
        keyed = {each.name: f"{each.name}/<key>" for each in slices.values() if each.keyed}
        raise UnknownSlice(f"there is no slice{named(name)}{instead(name, slices, 'slices', keyed)}")
    if declared.keyed and key is None:
        every = f", or all of them as {name}/*" if or_all else ""
        raise UnknownSlice(f"{name} is a keyed slice: name an instance as {name}/<key>{every}")
    if not declared.keyed and key is not None:
        raise UnknownSlice(f"{name} is a plain slice, which has no instances: name it without the slash")
