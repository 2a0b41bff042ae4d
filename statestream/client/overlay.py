"""The state as it will be once the server has done what was dispatched.

Invariants: pure. An expected change is shown from its dispatch until the state contains what the server has made of
it, or until the server has refused it: never both, and never neither. It is made anew on each state that arrives. If a
state may contain it or not, because changes were coalesced, the value from before is shown until the answer tells. One
thread changes an overlay, and any thread may read its state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from statestream.client.replica import Replica, Update
from statestream.core.change import REMOVED, Action, Result
from statestream.core.draft import produce

log: Final = logging.getLogger("statestream.client")
Reducers = Mapping[str, Callable[..., Any]]
"""By the type of an action, a function like its handler: of a draft of the slice's value, and the payload."""


class Expected(Struct, kw_only=True):
    """A change that the server has not made yet, as far as is known. It counts, so it is not frozen."""

    id: str
    name: str
    reduce: Callable[[Any], Any]
    sent: bool = False
    unclear: bool = False
    """Whether a state has arrived that may contain it."""
    version: int | None = None
    """Of the slice, since the answer."""
    contained: bool = False


class Overlay:
    """What a replica holds, with the changes that are expected of dispatched actions."""

    def __init__(self, replica: Replica, reducers: Reducers, follows: Callable[[str], bool]) -> None:
        """`follows(name)`: whether the replica has that slice, or will have it."""
        self._replica, self._reducers, self._follows = replica, reducers, follows
        self._expected: list[Expected] = []
        self._before: dict[str, Any] = {}
        self._confirmed: Mapping[str, Any] = replica.state
        self._shown: dict[str, Any] | None = None

    @property
    def state(self) -> Mapping[str, Any]:
        shown = self._shown
        return self._replica.state if shown is None else shown

    def expects(self, actions: Sequence[Action]) -> bool:
        return any(action.type in self._reducers for action in actions)

    def add(self, id: str, actions: Sequence[Action]) -> None:
        """Expects the changes of a request, each of them in the slice that declares its action."""
        for action in actions:
            if action.type in self._reducers and self._follows(_name(action)):
                reduce = _applied(self._reducers[action.type], action.payload)
                self._expected.append(Expected(id=id, name=_name(action), reduce=reduce))
        self._changed()

    def sent(self, id: str) -> None:
        """The server may have the request from now on."""
        for each in self._expected:
            each.sent = each.sent or each.id == id

    def answered(self, id: str, result: Result) -> None:
        """The server has accepted the request."""
        versions = dict(result.changes)  # the last one of each slice
        for each in self._expected:
            if each.id == id:
                each.version = versions.get(each.name, 0)
        self._changed()

    def refused(self, id: str) -> None:
        """The server has refused the request, or nobody sends it any more."""
        self._expected = [each for each in self._expected if each.id != id]
        self._changed()

    def updated(self, updates: Sequence[Update]) -> None:
        """The replica has made the updates of a frame."""
        if updates and self._expected:
            newest = max(update.version for update in updates)  # what is older has come, or never will
            for each in self._expected:
                self._compare(each, updates, newest)
            self._changed()
        self._confirmed = self._replica.state

    def _compare(self, each: Expected, updates: Sequence[Update], newest: int) -> None:
        known = each.version is not None and each.version <= newest
        each.contained = each.contained or known or any(_is_of(each, update) for update in updates)
        if each.contained or not each.sent or each.version is not None:
            return
        if any(_is_unclear_for(each, update) for update in updates):
            each.unclear = True
            self._before.setdefault(each.name, self._confirmed.get(each.name, REMOVED))

    def _changed(self) -> None:
        unclear = set()
        for each in self._expected:
            held = self._replica.versions.get(each.name, 0)
            each.contained = each.contained or (each.version is not None and each.version <= held)
            if each.unclear and not each.contained and each.version is None:
                unclear.add(each.name)
        self._before = {name: value for name, value in self._before.items() if name in unclear}
        self._expected = [each for each in self._expected if not each.contained or each.name in self._before]
        self._shown = self._expected_state() if self._expected else None

    def _expected_state(self) -> dict[str, Any]:
        state = dict(self._replica.state)
        for name, value in self._before.items():
            _put(state, name, value)
        for each in self._expected:
            _put(state, each.name, _reduced(each, state.get(each.name, REMOVED)))
        return state


def _name(action: Action) -> str:
    name = action.type.partition("/")[0]
    return name if action.key is None else f"{name}/{action.key}"


def _applied(reducer: Callable[..., Any], payload: Mapping[str, Any]) -> Callable[[Any], Any]:
    return lambda draft: reducer(draft, **payload)


def _is_of(each: Expected, update: Update) -> bool:
    return update.slice == each.name and update.cause is not None and update.cause.get("id") == each.id


def _is_unclear_for(each: Expected, update: Update) -> bool:
    """Whether nobody knows which actions an update is of."""
    return update.kind == "initial" or (update.slice == each.name and update.cause is None)


def _put(state: dict[str, Any], name: str, value: Any) -> None:
    if value is REMOVED:
        state.pop(name, None)
    else:
        state[name] = value


def _reduced(each: Expected, value: Any) -> Any:
    """REMOVED stands for an instance that does not exist; to a reducer, it is None.

    If a reducer fails, its change does not fit what others have made of the value, and is not shown.
    """
    base = None if value is REMOVED else value
    try:
        result = produce(base, each.reduce)[0]
    except Exception:
        log.exception("the expected change of %s was not made", each.name)
        return value
    return value if result is None else result
