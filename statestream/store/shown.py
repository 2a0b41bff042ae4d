"""What the views of slices show: each computed once per change, for everybody who sees the slice through it.

Invariants: synchronous. A view that raises, or returns anything but JSON, shows null, and the log says so. What is kept
is bounded; without it, a change is shown as a whole value instead of patches. A shown slice has the versions of the
slice itself, also across changes that it does not show: then its patches are empty.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from statestream.core.change import Change, SliceState
from statestream.core.patch import diff
from statestream.core.sharing import shared
from statestream.core.slices import View
from statestream.core.values import encode
from statestream.store.registry import HandlerRegistry
from statestream.store.rights import Rights
from statestream.store.slow_calls import SlowCalls, name_of
from statestream.store.transaction import value_after

log = logging.getLogger("statestream")

KEPT_BYTES: Final = 32 << 20


class ShownStates:
    """The views of one store's slices."""

    def __init__(self, registry: HandlerRegistry, slow_calls: SlowCalls) -> None:
        self._registry, self._slow_calls = registry, slow_calls
        self._kept: OrderedDict[tuple[str, int], SliceState] = OrderedDict()
        self._bytes = 0

    def state(self, name: str, number: int, state: SliceState) -> SliceState:
        """What a view shows of a state. `number` counts the views of the slice."""
        kept = self._kept.get((name, number))
        if kept is None or kept.position != state.position:
            shown = self._show(name, number, state.value, None if kept is None else kept.value)
            kept = self._keep(name, number, SliceState(shown, state.position))
        return kept

    def past(self, name: str, number: int, state: SliceState) -> SliceState:
        """The same for a state of the past, which is not kept."""
        return SliceState(self._show(name, number, state.value), state.position)

    def change(self, number: int, change: Change, state: SliceState | None) -> Change:
        """What a view shows of a change that was just applied. `state` is what it has led to."""
        bare = without_payload(change)
        if state is None:
            self._forget(change.slice, number)
            return bare
        before = self._kept.get((change.slice, number))
        shown = self.state(change.slice, number, state)
        if before is not None and before.version == change.from_version:
            patch = encode(diff(before.value, shown.value))
            if len(patch) < shown.measured:
                return replace(bare, kind="patches", data=patch)
        return replace(bare, kind="value", data=shown.encoded())

    def history(
        self, numbers: Mapping[str, int], before: Mapping[str, Any], changes: Iterable[Change]
    ) -> Iterator[Change]:
        """What views show of changes of the past, each with the whole value, and computed when it is asked for.

        `numbers` has the view of each slice that is seen through one, `before` the values before the first change.
        """
        values = dict(before)
        for change in changes:
            number = numbers.get(change.slice)
            if number is None:
                yield change
                continue
            bare = without_payload(change)
            if change.kind == "removed":
                values.pop(change.slice, None)
                yield bare
                continue
            values[change.slice] = value_after(values.get(change.slice), change)
            value = self._show(change.slice, number, values[change.slice])
            yield replace(bare, kind="value", data=encode(value))

    def erased(self, names: Collection[str]) -> None:
        """Nothing is kept of what views have shown of these slices."""
        for name, number in tuple(self._kept):
            if name in names:
                self._forget(name, number)

    def _show(self, name: str, number: int, value: Any, before: Any = None) -> Any:
        """`before` is what it has shown before, if that is known."""
        view: View = self._registry.slices[name.partition("/")[0]].views[number]
        try:
            with self._slow_calls.timed("view", view.function):
                return shared(view.function(value), before)
        except Exception:
            log.exception("the view %s failed; it shows null", name_of(view.function))
        return None

    def _keep(self, name: str, number: int, shown: SliceState) -> SliceState:
        self._forget(name, number)
        self._kept[name, number] = shown
        self._bytes += shown.measured
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.measured
        return shown

    def _forget(self, name: str, number: int) -> None:
        if (kept := self._kept.pop((name, number), None)) is not None:
            self._bytes -= kept.measured


def without_payload(change: Change) -> Change:
    """The change as readers see it who may not see the payload of its action."""
    return replace(change, cause=replace(change.cause, payload=b""))


def caused(rights: Rights, change: Change) -> Change:
    """A change that may be read, without the payload of its action if that is of a slice with other rights."""
    if rights.unlimited or change.cause.type.partition("/")[0] == change.slice.partition("/")[0]:
        return change
    return without_payload(change)
