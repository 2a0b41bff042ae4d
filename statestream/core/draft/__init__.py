"""A mutable view of immutable state that records what is done to it.

`produce(base, recipe)` runs a recipe on a draft and gives the new value and the RFC 6902 operations
that lead there. A draft copies the containers that are written to and shares the rest, so the base
is never touched and an old snapshot stays whole. Cost: the width of the containers touched; for the
actions of a batch that share a `Scratch`, once for all of them, but once each where members of an object go.

What a draft says of itself: `isinstance(draft, dict)` is False, `isinstance(draft, MutableMapping)`
True (lists: MutableSequence), so `match` patterns and `**draft` work; `draft == {...}` compares the
content as Python does; json.dumps and orjson.dumps raise TypeError, `copy.deepcopy(draft)` gives
plain JSON. After its action a draft refuses every use.

Invariants: what is recorded is in `recorder`, nodes are in `node`, the two kinds of draft in `containers`; this file
only runs a recipe and looks at how it ended.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from statestream.core.change import REMOVED
from statestream.core.draft.containers import KINDS, DictDraft, ListDraft
from statestream.core.draft.node import Intake, frozen_op
from statestream.core.draft.recorder import Recorder, Scratch
from statestream.core.errors import Gap, HandlerFailed, NotJSON
from statestream.core.patch import Op, apply_patch, diff
from statestream.core.values import plain

__all__ = ["DictDraft", "ListDraft", "Scratch", "patched", "produce"]


def produce(base: Any, recipe: Callable[[Any], object], scratch: Scratch | None = None) -> tuple[Any, list[Op]]:
    """The value that `recipe` makes of `base`, and the operations from one to the other.

    The recipe changes the draft it is given, or returns a new value, never both; or it returns REMOVED, whatever it
    has changed before.
    Returns `base` itself with no operations if nothing changed, (REMOVED, []) if it asked for that. Values
    in the operations may be orjson.Fragment. Raises what the recipe raises, NotJSON, HandlerFailed.
    With a `scratch`, what earlier recipes made with it is written in place: `base` is then used up, and where this
    raises, half written until `scratch.undo()`.
    """
    scratch = scratch or Scratch()
    began = scratch.mark
    recorder = Recorder(KINDS, scratch)
    root = _root(recorder, base)
    try:
        result = recipe(base if root is None else root)
        if result is REMOVED:
            return REMOVED, []
        if result is not None and result is not root:
            value, ops = _returned(recorder, base, result, began)
        else:
            value, ops = base if root is None else root._data, recorder.live_ops()
        if not ops:
            scratch.undo(began)  # what was written and unwritten may stand in a copy, or in another order
            return base, []
        return value, ops
    finally:
        recorder.close()


def patched(base: Any, operations: list[Op]) -> Any:
    """The value after operations from elsewhere, sharing with `base` what they do not touch. Raises Gap."""
    recorder = Recorder(KINDS, Scratch())
    root = _root(recorder, base)
    try:
        result = apply_patch(base if root is None else root, operations)
        if root is None or result is not root:
            return Intake(recorder, None, root).take(result, 0)
        return root._data if recorder.live_ops() else base
    except NotJSON as error:
        raise Gap(f"expected operations that lead to JSON: {error}; start again") from None
    finally:
        recorder.close()


def _root(recorder: Recorder, base: Any) -> Any:
    """The draft of `base`; None where it is a scalar, which nobody can write to."""
    recorder.root = recorder.node(base, None, 0) if type(base) in (dict, list) else None
    return recorder.root


def _returned(recorder: Recorder, base: Any, result: object, began: int) -> tuple[Any, list[Op]]:
    """The value that a recipe returned, which must have left its draft as it was."""
    if inspect.isawaitable(result):
        _refuse_awaitable(result)
    if recorder.live_ops():
        raise HandlerFailed(
            "expected a handler that changes its draft or returns a value, got one that does both; "
            "a lambda may return what a method gave back by accident"
        )
    value = Intake(recorder, None, recorder.root).take(result, 0)
    if recorder.scratch.mark > began:
        value = plain(value)  # it may hold what was written in place, which `base` is to be compared without
        recorder.scratch.undo(began)
    return value, [frozen_op(op) for op in diff(base, value)]


def _refuse_awaitable(result: Any) -> NoReturn:
    if inspect.iscoroutine(result):
        result.close()
    raise HandlerFailed("expected a plain function as handler, got a coroutine; do I/O before the dispatch")
