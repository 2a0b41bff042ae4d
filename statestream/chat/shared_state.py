"""Shared state: slices that AG-UI clients may set, each by one action.

    @chat.shared_state
    @board.action
    def replaced(state, *, value: dict) -> Any:
        return value

A client posts its whole state with each run, whether or not it has changed anything. So the server sends a mark with
each of these slices, which the client posts back with the rest. The mark has the version of the slice, and a hash of
the value that was sent. They tell what the client has changed, and whether somebody else has changed it since.

Invariants: pure. Whatever a client posts is compared as JavaScript understands JSON: all numbers are doubles there. A
value that the client has not changed leads to no action.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from statestream.core.change import Action, SliceState
from statestream.core.errors import Malformed, NotJSON, VersionConflict
from statestream.core.names import split_name
from statestream.core.slices import ActionCreator
from statestream.core.values import plain

MARKS: Final = "statestream"
"""The member of the client's state that has the marks, by the names of the slices. No slice has this name."""
VALUE: Final = "value"
"""The parameter of the action that has the new value."""


class SharedState:
    """The actions that set slices, by the names of these slices."""

    def __init__(self) -> None:
        self._setters: dict[str, ActionCreator[...]] = {}

    def __bool__(self) -> bool:
        return bool(self._setters)

    def add(self, setter: Any) -> None:
        """Raises TypeError for what cannot set a slice, and ValueError if the slice has an action for that already."""
        if not isinstance(setter, ActionCreator):
            raise TypeError("write @chat.shared_state above the decorator of an action, as in @board.action")
        if set(setter.signature.schema().get("properties", {})) != {VALUE}:
            raise TypeError(f"expected {setter.type} to have the parameter `{VALUE}`, and no other")
        if setter.slice.internal or setter.slice.hidden:
            raise TypeError(f"expected an action that clients may dispatch, but {setter.slice.name} is for the server")
        if self._setters.setdefault(setter.slice.name, setter) is not setter:
            raise ValueError(f"{setter.slice.name} has an action for shared state already")

    def check(self) -> None:
        """Raises TypeError for a slice with views: who sees a part of a value cannot set the whole."""
        for name, setter in self._setters.items():
            if setter.slice.views:
                raise TypeError(f"expected a slice without views for shared state, but {name} has one")

    def has(self, name: str) -> bool:
        """Whether clients may set the slice or instance of that name."""
        return split_name(name)[0] in self._setters

    def changes(self, posted: Any, states: Mapping[str, SliceState]) -> tuple[list[Action], dict[str, int]]:
        """The actions for what a client has changed, and the versions that they are based on.

        `states` are the slices that the client has asked for. Raises VersionConflict, InvalidPayload, Malformed.
        """
        actions: list[Action] = []
        expect: dict[str, int] = {}
        members: Mapping[str, Any] = posted if isinstance(posted, dict) else {}
        marks = members.get(MARKS)
        for name in sorted(name for name in states.keys() & members.keys() if self.has(name)):
            value, mark = members[name], marks.get(name) if isinstance(marks, dict) else None
            if _digest(value) == _digest(states[name].value) or (mark is not None and _is_sent(mark, value)):
                continue
            if mark is None or not _is_current(mark, states[name]):
                raise VersionConflict(f"{name} has changed since you loaded it, so your changes were not saved")
            actions.append(self._setting(name, value))
            expect[name] = states[name].version
        return actions, expect

    def _setting(self, name: str, value: Any) -> Action:
        family, key = split_name(name)
        setter: Any = self._setters[family]
        try:
            given = plain(value)
        except NotJSON as error:
            raise Malformed(f"in `state`, at /{name}: {error}") from None
        action: Action = setter(**{VALUE: given}) if key is None else setter(key, **{VALUE: given})
        return action


def mark(state: SliceState) -> str:
    """What tells the version and the value that were sent."""
    return f"{state.version}-{_digest(state.value)}"


def _is_sent(mark: Any, value: Any) -> bool:
    """Whether the client still has the value that it was sent with that mark."""
    return isinstance(mark, str) and mark.partition("-")[2] == _digest(value)


def _is_current(mark: Any, state: SliceState) -> bool:
    return isinstance(mark, str) and mark.partition("-")[0] == str(state.version)


def _digest(value: Any) -> str:
    text = orjson.dumps(_as_in_javascript(value), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:16]


def _as_in_javascript(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_in_javascript(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_in_javascript(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
