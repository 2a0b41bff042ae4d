"""The handlers that an action reaches.

Invariants: made once, from declarations. It holds no state and decides nothing about who may dispatch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from statestream.core.change import Action, Cause, PendingChange, SliceState
from statestream.core.errors import Malformed, UnknownAction
from statestream.core.slices import Handler, Slice
from statestream.core.values import encode


class HandlerRegistry:
    """The slices of a store by name, and the handlers of each action in the order of the slices.

    `public` has those of the slices that are not hidden.
    """

    def __init__(self, slices: Iterable[Slice]) -> None:
        self.slices: dict[str, Slice] = {}
        self._handlers: dict[str, list[Handler]] = {}
        for declared in slices:
            if declared.name in self.slices:
                raise ValueError(f"expected each slice once, got {declared.name!r} twice")
            self.slices[declared.name] = declared
            for handler in declared.handlers:
                self._handlers.setdefault(handler.action_type, []).append(handler)
        self.public = {name: declared for name, declared in self.slices.items() if not declared.hidden}
        for action_type, handlers in self._handlers.items():
            self._check(action_type, handlers)

    def _check(self, action_type: str, handlers: Iterable[Handler]) -> None:
        declared = self.slices.get(action_type.partition("/")[0])
        if declared is None or all(handler.slice is not declared for handler in handlers):
            raise ValueError(f"expected the slice that declares {action_type} among the store's slices")
        for handler in handlers:
            if handler.slice.keyed and not declared.keyed and handler.key_of is None:
                raise ValueError(f"expected `key=` where {handler.slice.name} handles {action_type}, which has no key")

    def handlers(self, action: Action) -> list[Handler]:
        """The handlers of an action. Raises UnknownAction, and Malformed if key and slice do not go together."""
        found = self._handlers.get(action.type)
        if found is None:
            raise UnknownAction("no slice declares an action of that type; the type looks like board/task_added")
        keyed = self.slices[action.type.partition("/")[0]].keyed
        if keyed != (action.key is not None):
            raise Malformed(f"expected {'a' if keyed else 'no'} key for {action.type}")
        return found

    def initial_changes(self, existing: Mapping[str, SliceState], request_id: str) -> tuple[PendingChange, ...]:
        """The changes that give every plain slice that does not exist yet its initial value."""
        cause = Cause(type="statestream/opened", id=request_id, actor=None, payload=b"{}")
        missing = [
            declared for declared in self.slices.values() if not declared.keyed and declared.name not in existing
        ]
        return tuple(PendingChange(slice=p.name, kind="value", data=encode(p.initial), cause=cause) for p in missing)
