"""What is checked of a dispatch or an erasure before it waits for the journal: its form, and the rights that are known.

Invariants: pure. Rules are asked again when the action takes effect. What somebody may not know is refused as if it
were not declared, and about the form of what they may know they are told first: that tells nothing new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from statestream.core.change import Action
from statestream.core.errors import Malformed, UnknownSlice
from statestream.core.names import check_key, split_name
from statestream.core.slices import ActionCreator, Slice, check_declared
from statestream.store.registry import HandlerRegistry
from statestream.store.rights import Rights, ValueOf
from statestream.store.schemas import NAME as NOTES


def actions_of(given: Any) -> Sequence[Action]:
    """The actions of a dispatch of several. Raises TypeError for anything else; the message shows the correct form."""
    if isinstance(given, Sequence) and not isinstance(given, str) and all(isinstance(each, Action) for each in given):
        return given
    if isinstance(given, ActionCreator):
        raise TypeError(f"expected an action, got what makes it: call it, as in {given.__name__}(…)")
    raise TypeError(
        "expected an action such as task_added(id=…) or Action(type=…, payload=…), or a list of them, "
        f"got {type(given).__name__}"
    )


def check(
    actions: Sequence[Action],
    expect: Mapping[str, int],
    *,
    registry: HandlerRegistry,
    rights: Rights,
    internal: bool,
    value_of: ValueOf,
) -> None:
    """Raises what the dispatch is to be answered with. `internal`: it is the server's own."""
    readable = rights.readable(value_of)
    for action in actions:
        name = action.type.partition("/")[0]
        if action.key is not None:
            check_key(action.key)
        known = name in readable and (internal or not readable[name].internal)
        if known:
            registry.handlers(action, readable)
        rights.check_dispatch(action.type, action.key, value_of)
        if not known:
            registry.handlers(action, readable if name in registry.slices else rights.tellable(value_of))
    for name, version in expect.items():
        _check_expected(name, version, readable)


def _check_expected(name: str, version: int, readable: Mapping[str, Slice]) -> None:
    try:
        check_declared(readable, *split_name(name), or_all=False)
    except (Malformed, UnknownSlice) as error:
        raise type(error)(f"in `expect`: {error}") from None
    if type(version) is not int or version < 0:
        raise Malformed(f"in `expect`: expected a whole number of at least 0 as the version of {name}")


def check_erase(names: Iterable[str], rights: Rights, value_of: ValueOf) -> None:
    """Raises what a request to erase these instances is to be answered with."""
    for name in names:
        family, key = split_name(name)
        if key is None or family == NOTES:
            raise Malformed(f"expected the name of an instance, such as room/42, got {name}; only those are erased")
        rights.check_erase(name, value_of)
