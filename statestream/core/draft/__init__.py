"""A mutable view of immutable state that records what is done to it.

`produce(base, recipe)` runs a recipe on a draft and returns the new value and the RFC 6902 operations that lead there.
A draft copies the containers that are written to and shares the rest, so the base is never changed and an old snapshot
stays complete. The cost is the width of the containers that are touched. Actions of a batch that share a `Scratch`
share that cost, except that each action that deletes members of an object pays it again.

`isinstance(draft, dict)` is False and `isinstance(draft, MutableMapping)` is True (lists: MutableSequence), so `match`
patterns and `**draft` work. `draft == {...}` compares the content as Python does. json.dumps and orjson.dumps raise
TypeError; `copy.deepcopy(draft)` returns plain JSON. After its action, any use of a draft raises DraftClosed.

Invariants: this file runs a recipe and looks at its outcome: `produce` for programs, `recorded` for the store. The
other files: `tracker` records, `containers` has the two kinds of draft, `scratch` the data that the actions of a batch
share.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

from statestream.core.change import REMOVED
from statestream.core.draft.containers import KINDS, DictDraft, ListDraft
from statestream.core.draft.scratch import Scratch
from statestream.core.draft.tracker import Intake, Tracker, frozen_op
from statestream.core.errors import Gap, HandlerFailed, NotJSON
from statestream.core.patch import Op, apply_patch, diff
from statestream.core.values import plain

__all__ = ["DictDraft", "ListDraft", "Scratch", "patched", "produce", "recorded"]


def produce(base: Any, recipe: Callable[[Any], object]) -> tuple[Any, list[Op]]:
    """The value that `recipe` makes of `base`, and the operations from one to the other, both as plain JSON.

    The recipe changes its draft, or returns a new value, never both; or it returns REMOVED, whatever it has changed.
    Returns `base` itself without operations if nothing changed, and (REMOVED, []) for REMOVED. Raises what the recipe
    raises, NotJSON, HandlerFailed.
    """
    value, ops = recorded(base, recipe, Scratch())
    return value, orjson.loads(orjson.dumps(ops))


def recorded(
    base: Any, recipe: Callable[[Any], object], scratch: Scratch, *, most: float = math.inf
) -> tuple[Any, list[Op]]:
    """Like `produce`, for operations that are encoded anyway: containers in them are encoded already (orjson.Fragment).

    Containers that earlier recipes made with the same `scratch` are written in place: `base` must not be used
    afterwards, and if this raises, it is half written until `scratch.undo()`. Also raises TooLarge for a recipe that
    writes more than `most` times.
    """
    began = scratch.mark
    tracker = Tracker(KINDS, scratch, most)
    root = _root(tracker, base)
    try:
        result = recipe(base if root is None else root)
        tracker.check()
        if result is REMOVED:
            return REMOVED, []
        if result is not None and result is not root:
            value, ops = _returned(tracker, base, result, began)
        else:
            value, ops = base if root is None else root._data, tracker.live_ops()
        if not ops:
            scratch.undo(began)  # writes that cancel each other out may have made a copy, or changed the order of keys
            return base, []
        return value, ops
    finally:
        tracker.close()


def patched(base: Any, operations: list[Op]) -> Any:
    """The value after operations from elsewhere. It shares with `base` what they do not touch. Raises Gap."""
    tracker = Tracker(KINDS, Scratch())
    root = _root(tracker, base)
    try:
        result = apply_patch(base if root is None else root, operations)
        if root is None or result is not root:
            return Intake(tracker, None, root).take(result, 0)
        return root._data if tracker.live_ops() else base
    except NotJSON as error:
        raise Gap(f"the operations do not lead to JSON ({error}); start again") from None
    finally:
        tracker.close()


def _root(tracker: Tracker, base: Any) -> Any:
    """The draft of `base`; None if it is a scalar, which cannot be written to."""
    tracker.root = tracker.draft(base, None, 0) if type(base) in (dict, list) else None
    return tracker.root


def _returned(tracker: Tracker, base: Any, result: object, began: int) -> tuple[Any, list[Op]]:
    """The value that a recipe returned. It must not have changed its draft as well."""
    if inspect.isawaitable(result):
        _refuse_awaitable(result)
    if tracker.live_ops():
        raise HandlerFailed(
            "the handler both changed its draft and returned a value; do only one of the two "
            "(a lambda may return the result of a method by accident)"
        )
    value = Intake(tracker, None, tracker.root).take(result, 0)
    if tracker.scratch.mark > began:
        value = plain(value)  # it may contain what was written in place, and `base` must be compared without that
        tracker.scratch.undo(began)
    return value, [frozen_op(op) for op in diff(base, value)]


def _refuse_awaitable(result: Any) -> NoReturn:
    if inspect.iscoroutine(result):
        result.close()
    raise HandlerFailed("the handler is a coroutine function; handlers are plain functions, do I/O before the dispatch")
