"""The slices beside a chat as AG-UI's state: one object, with a member for each slice, by its full name.

Invariants: the viewer's place is the states that were shown last, which share everything unchanged with those of today.
What is new is their difference, however many changes have led to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from statestream.chat.protocols.ag_ui.messages import MAX_SNAPSHOT, Event
from statestream.chat.viewing.projection import Beside
from statestream.core.change import SliceState
from statestream.core.errors import TooLarge
from statestream.core.patch import Op, diff
from statestream.core.values import escape


class StateEvents:
    """The state of one viewer."""

    def __init__(self) -> None:
        self._shown: dict[str, SliceState] = {}

    def new(self, beside: Beside) -> list[Event]:
        """The events for slices of one look. Raises TooLarge."""
        if beside.whole:
            self._shown = {name: state for name, state in beside.slices.items() if state is not None}
            check_size(self._shown)
            members = {name: orjson.Fragment(state.encoded()) for name, state in self._shown.items()}
            return [{"type": "STATE_SNAPSHOT", "snapshot": members}]
        delta = [op for name in sorted(beside.slices) for op in self._difference(name, beside.slices[name])]
        return [{"type": "STATE_DELTA", "delta": delta}] if delta else []

    def _difference(self, name: str, after: SliceState | None) -> list[Op]:
        before = self._shown.pop(name, None)
        path = f"/{escape(name)}"
        if after is None:
            return [] if before is None else [{"op": "remove", "path": path}]
        self._shown[name] = after
        if before is None:
            return [{"op": "add", "path": path, "value": after.value}]
        return diff(before.value, after.value, path)


def check_size(slices: Mapping[str, SliceState]) -> None:
    """Raises TooLarge if the protocol's client would reject so much at once."""
    if sum(len(state.encoded()) for state in slices.values()) > MAX_SNAPSHOT:
        raise TooLarge(f"the slices exceed {MAX_SNAPSHOT >> 20} MiB in all; select fewer")
