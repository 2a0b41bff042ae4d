"""The containers of a draft and what is recorded of them.

Invariants: how it works, and what breaks if touched:
- State is a tree. Every value is copied on its way in, unless it is a draft that has just been taken out of the tree,
  which moves with its identity. So each container has one place, and `id(container)` finds its draft in
  `Tracker.drafts`, whatever index it has by now.
- A draft's `_key` is a hint. `_locate` verifies it by identity, so shifting a list renumbers nothing.
- A container whose children have moved elsewhere is hollow. If it is put back, it is copied, or its children would be
  in two places.
- A draft without a parent that is not the root is detached: it works like plain data and is not recorded.
- A draft writes only to data that it owns: it has copied that data before, or an earlier recipe of the batch has made
  it (`_shared`), and then each write also notes how to undo it.
- A recorded value is frozen as bytes at that moment. What is written below it later is an operation of its own. A
  second write to the same key may change the first operation only if nothing can have been recorded below it, or frozen
  with it, since: hence `Tracker.epoch`, which is raised whenever content is frozen.
- `close` breaks the cycles between drafts and tracker. Without it, every copy would wait for the garbage collector.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import orjson

from statestream.core.draft.closed import CLOSED
from statestream.core.draft.scratch import Scratch
from statestream.core.errors import NotJSON, TooLarge
from statestream.core.patch import Op, change
from statestream.core.values import SCALARS, check_depth, check_member, escape, plain, same

MISSING: Final = object()
LONG: Final = 100
MAX_OPS: Final = 10_000
"""A recipe that does more replaces the whole value: it takes longer to make, send and apply so many operations."""
MAX_WRITES: Final = 15_000
"""A handler that writes so often takes some 50 ms, in which nobody else is served. More is refused."""


class Tracker:
    """What one run of a recipe has done so far: the operations in order, and the drafts by the ids of their containers.

    `epoch` is raised whenever content is frozen into an operation, see `Draft._record_set`. `whole` says that there
    were too many operations to go on recording them. `writes` counts the writes, of which `most` are allowed. `kinds`
    are the draft classes, which are defined in `containers`, a module that imports this one.
    """

    __slots__ = ("drafts", "epoch", "kinds", "most", "ops", "root", "scratch", "whole", "writes")

    def __init__(self, kinds: Mapping[type[Any], type[Draft]], scratch: Scratch, most: float = math.inf) -> None:
        self.kinds = kinds
        self.most, self.writes = most, 0
        self.scratch = scratch
        self.drafts: dict[int, Draft] = {}
        self.ops: list[Op] = []
        self.epoch = 0
        self.root: Draft | None = None
        self.whole = False

    def draft(self, data: Any, parent: Draft | None, key: str | int) -> Draft:
        found = self.kinds[type(data)](self, data, parent, key)
        self.drafts[id(data)] = found
        return found

    def live_ops(self) -> list[Op]:
        if self.whole:
            assert self.root is not None
            return [{"op": "replace", "path": "", "value": frozen(self.root._data)}]
        return [op for op in self.ops if op]

    def check(self) -> None:
        """Raises TooLarge if there were too many writes, also if the recipe did not let that end it."""
        if self.writes > self.most:
            raise TooLarge(
                f"it changes more than {self.most:,} members and elements one by one; "
                "make the new list or dict first, and assign or return it as a whole"
            )

    @contextlib.contextmanager
    def as_one(self) -> Iterator[None]:
        """Counts all that is written in it once. What it is given is ready, and payloads are limited."""
        most, self.most, writes = self.most, math.inf, self.writes
        try:
            yield
        finally:
            self.most, self.writes = most, writes + 1

    def close(self) -> None:
        for draft in self.drafts.values():
            draft._data, draft._parent, draft._written = CLOSED, None, None
            draft._tracker = CLOSED  # type: ignore[assignment]  # breaks the cycle, and refuses every use
        self.drafts.clear()


class Draft:
    """What drafts of dicts and lists share: their place in the tree, copying before the first write, recording."""

    __slots__ = ("_data", "_hollow", "_key", "_owned", "_parent", "_shared", "_tracker", "_written")
    _data: Any

    def __init__(self, tracker: Tracker, data: Any, parent: Draft | None, key: str | int) -> None:
        self._tracker, self._data, self._parent, self._key = tracker, data, parent, key
        self._owned = self._shared = id(data) in tracker.scratch.made
        self._hollow = False
        self._written: dict[Any, tuple[Op, Any, int]] | None = None

    def _child(self, key: Any, value: Any) -> Any:
        """The draft of a container; a scalar itself."""
        if type(value) is not dict and type(value) is not list:
            return value
        draft = self._tracker.drafts.get(id(value))
        if draft is None:
            return self._tracker.draft(value, self, key)
        if draft._parent is self:
            draft._key = key  # renews the hint: without it, every write after a shift would search for its place
        return draft

    def _locate(self) -> Any:
        """The key at which the parent holds this container now."""
        assert self._parent is not None
        siblings = self._parent._data
        try:
            if siblings[self._key] is self._data:
                return self._key
        except (KeyError, IndexError):
            pass  # the list has become shorter: search for it
        pairs = siblings.items() if type(siblings) is dict else enumerate(siblings)
        self._key = next(key for key, value in pairs if value is self._data)
        return self._key

    def _path(self) -> str | None:
        """The pointer to this container in the document as it is now; None if nothing is recorded of it.

        This is the case while it is detached, and after the whole value was replaced.
        """
        if len(self._tracker.ops) > MAX_OPS:
            self._tracker.whole = True
            self._tracker.ops.clear()
        if self._tracker.whole:
            return None
        segments: list[str] = []
        draft = self
        while (parent := draft._parent) is not None:
            segments.append(escape(str(draft._locate())))
            draft = parent
        if draft is not self._tracker.root:
            return None
        return "".join(f"/{segment}" for segment in reversed(segments))

    def _around(self) -> list[Draft]:
        """The draft itself and the drafts that contain it, the outermost last."""
        drafts = [self]
        while (parent := drafts[-1]._parent) is not None:
            drafts.append(parent)
        return drafts

    def _hollow_out(self) -> None:
        """Marks those around it, which still hold it when it moves: they must not be put back as they are."""
        for outer in self._around()[1:]:
            outer._hollow = True

    def _depth(self) -> int:
        """The number of containers around what this one holds."""
        return len(self._around())

    def _own(self) -> None:
        """Counts a write. Copies this container and those around it if necessary, so that they can be written to."""
        tracker = self._tracker
        tracker.writes += 1
        if tracker.writes > tracker.most:
            tracker.check()
        if not self._owned:
            self._become(self._data.copy())

    def _become(self, data: Any) -> None:
        """Replaces what this draft holds with `data`, which belongs to the draft."""
        parent, key = self._parent, None
        if parent is not None:
            if not parent._owned:
                parent._become(parent._data.copy())
            key = self._locate()
        tracker, old = self._tracker, self._data
        del tracker.drafts[id(old)]
        tracker.drafts[id(data)] = self
        tracker.scratch.made.add(id(data))
        self._data, self._owned, self._shared = data, True, False
        if parent is not None:
            parent._set(key, data, old)

    def _set(self, key: Any, new: Any, old: Any) -> None:
        """Writes to data that it owns. `old` was there before (MISSING: nothing)."""
        data = self._data
        data[key] = new
        if self._shared:
            self._undo_with(partial(data.__delitem__, key) if old is MISSING else partial(data.__setitem__, key, old))

    def _undo_with(self, step: Callable[[], object]) -> None:
        """Notes how to take back a write to a container that was there before this recipe."""
        self._tracker.scratch.wrote(step)

    def _detach(self, value: Any) -> None:
        """A container that leaves this one is not recorded any more, if anybody holds its draft."""
        if type(value) not in (dict, list):
            return
        draft = self._tracker.drafts.get(id(value))
        if draft is not None and draft._parent is self:  # otherwise it has moved elsewhere already
            draft._parent = None

    def _put(self, key: Any, old: Any, value: Any) -> None:
        """Sets `key`, which holds `old` (or nothing: MISSING)."""
        if type(value) in SCALARS and type(old) not in (dict, list):
            self._put_scalar(key, old, value)
            return
        if isinstance(value, Draft) and value._data is old:
            return
        held = self._tracker.drafts.get(id(old)) if type(old) in (dict, list) else None
        replaced = held if held is not None and held._parent is self else None  # if it moved, it has its children there
        intake = Intake(self._tracker, self, replaced)
        try:
            raw = intake.take(value, self._depth(), (key,))
        except NotJSON as error:
            raise error.at(f"{self._path() or ''}/{escape(str(key))}{error.place}") from None
        path = self._path()
        ops = None
        if type(raw) is type(old) and type(raw) in (dict, list):
            ops = change(old, raw, f"{path}/{escape(str(key))}")
            if not ops and not intake.moved and held is None:
                return
        elif old is not MISSING and same(old, raw):
            return
        self._own()
        self._detach(old)
        self._set(key, raw, old)
        intake.settle()
        if path is not None:
            self._record_set(path, key, old, raw) if ops is None else self._record_ops(key, ops)

    def _put_scalar(self, key: Any, old: Any, value: Any) -> None:
        """What `_put` does for scalars, which most writes are: nothing can move or be moved."""
        try:
            raw = plain(value)
        except NotJSON as error:
            raise error.at(f"{self._path() or ''}/{escape(str(key))}") from None
        if old is not MISSING and same(old, raw):
            return
        self._own()
        self._set(key, raw, old)
        path = self._path()
        if path is not None:
            self._record_set(path, key, old, raw)

    def _record_ops(self, key: Any, ops: list[Op]) -> None:
        if self._written is not None:
            self._written.pop(key, None)
        self._tracker.ops.extend(frozen_op(op) for op in ops)
        self._tracker.epoch += 1

    def _record_set(self, path: str, key: Any, old: Any, new: Any) -> None:
        """Records a change of `key` (MISSING: absent), if that is safe in the operation that was recorded before."""
        epoch = self._tracker.epoch
        if self._written is None:
            self._written = {}
        op, original, written_at = self._written.get(key, (None, None, -1))
        if op and written_at == epoch and not isinstance(op.get("value"), orjson.Fragment):
            path_then = op["path"]
            op.clear()
            if original is new or (
                type(original) not in (dict, list) and original is not MISSING and same(original, new)
            ):
                del self._written[key]
            else:
                op.update(_set_op(path_then, original, new))
            return
        op = _set_op(f"{path}/{escape(str(key))}", old, new)
        self._tracker.ops.append(op)
        self._written[key] = (op, old, epoch)

    def _rewrite(self, content: Any) -> None:
        """Replaces the whole content. Children that were in it before keep their identity."""
        intake = Intake(self._tracker, self, self)
        try:
            raw = intake.take(content, self._depth() - 1)
        except NotJSON as error:
            raise error.at(f"{self._path() or ''}{error.place}") from None
        old, path = self._data, self._path()
        ops = change(old, raw, path or "")
        if not ops and self._stay(old, intake):
            return
        for draft in self._tracker.drafts.values():
            if draft._parent is self:
                draft._parent = None
        self._become(raw)
        intake.settle()
        self._written = None
        self._tracker.epoch += 1
        if path is not None:
            self._tracker.ops.extend(frozen_op(op) for op in ops)

    def _stay(self, old: Any, intake: Intake) -> bool:
        """Whether every child that somebody may hold keeps its place: then there is nothing to rewrite."""
        if any(old[route[0]] is not draft._data for draft, route in intake.moved if len(route) == 1):
            return False
        moved = {id(draft) for draft, _ in intake.moved}
        children = (self._tracker.drafts.get(id(value)) for value in (old.values() if type(old) is dict else old))
        return all(child is None or child._parent is not self or id(child) in moved for child in children)

    def __len__(self) -> int:
        return len(self._data)

    def __eq__(self, other: object) -> bool:
        return bool(self._data == bare(other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "<Draft, closed>" if self._data is CLOSED else f"Draft({self._data!r})"

    def __deepcopy__(self, memo: object) -> Any:
        return plain(self._data)


def _set_op(path: str, old: Any, new: Any) -> Op:
    if new is MISSING:
        return {"op": "remove", "path": path}
    return {"op": "add" if old is MISSING else "replace", "path": path, "value": frozen(new)}


def bare(value: object) -> Any:
    return value._data if isinstance(value, Draft) else value


def frozen(value: Any) -> Any:
    """The value as of now: a container as encoded JSON, which later writes cannot change."""
    return orjson.Fragment(orjson.dumps(value)) if type(value) in (dict, list) else value


def frozen_op(op: Op) -> Op:
    if "value" in op:
        op["value"] = frozen(op["value"])
    return op


class Intake:
    """Makes a plain value of what a handler puts into a container. Drafts in it move, or are copied.

    `into` receives the value (None: it becomes the new root), and `replaced` is the container whose place it takes. A
    draft moves if it is no longer in the tree, or is a direct child of `replaced`, and occurs once. Any other draft is
    copied.
    """

    __slots__ = ("into", "moved", "replaced", "taken", "tracker")

    def __init__(self, tracker: Tracker, into: Draft | None, replaced: Draft | None) -> None:
        self.tracker, self.into, self.replaced = tracker, into, replaced
        self.moved: list[tuple[Draft, tuple[Any, ...]]] = []
        self.taken: set[int] = set()

    def take(self, value: Any, depth: int, route: tuple[Any, ...] = ()) -> Any:
        """The plain value. `route` leads to it from `into`; `depth` is the number of containers around it."""
        if isinstance(value, Draft):
            return self._take_draft(value, depth, route)
        kind = type(value)
        if kind is dict:
            check_depth(depth)
            parent_key = route[-1] if route else ""
            return {
                check_member(key, parent_key): self._take_item(item, depth + 1, (*route, key))
                for key, item in value.items()
            }
        if kind is list or kind is tuple:
            check_depth(depth)
            return self._take_list(value, depth + 1, route)
        return plain(value, depth, route[-1] if route else "")

    def _take_list(self, values: Sequence[Any], depth: int, route: tuple[Any, ...]) -> list[Any]:
        if len(values) > LONG and {*map(type, values)} <= {*SCALARS}:
            with contextlib.suppress(NotJSON):  # the general way finds the place of the problem
                return [SCALARS[type(item)](item) for item in values]
        return [self._take_item(item, depth, (*route, index)) for index, item in enumerate(values)]

    def _take_item(self, value: Any, depth: int, route: tuple[Any, ...]) -> Any:
        try:
            return self.take(value, depth, route)
        except NotJSON as error:
            raise error.under(escape(str(route[-1]))) from None

    def _take_draft(self, draft: Draft, depth: int, route: tuple[Any, ...]) -> Any:
        parent_key = route[-1] if route else ""
        if draft._tracker is not self.tracker or id(draft) in self.taken or not self._may_move(draft):
            return plain(draft._data, depth, parent_key)
        if draft._parent is None or depth != draft._depth() - 1 or parent_key == "constructor":
            plain(draft._data, depth, parent_key)  # for its checks: the limits may not hold where it goes
        if draft._parent is not self.replaced:
            draft._own()  # its previous container still holds it, and sees later writes, as in Python
        if draft._parent is not self.into or self.into is not self.replaced:
            draft._hollow_out()
        self.taken.add(id(draft))
        self.moved.append((draft, route))
        return draft._data

    def _may_move(self, draft: Draft) -> bool:
        if draft._parent is not None and draft._parent is self.replaced:
            return True
        if self.into is not None and any(outer is draft for outer in self.into._around()):
            return False  # a container cannot contain itself
        around = draft._around()
        return (
            not draft._hollow
            and around[-1] is not self.tracker.root
            and not any(id(outer) in self.taken for outer in around)
        )

    def settle(self) -> None:
        """Sets the new places of the drafts that moved. Call it once the value is in its place."""
        for draft, route in self.moved:
            parent = self.into
            assert parent is not None
            for key in route[:-1]:
                parent = parent._child(key, parent._data[key])
            draft._parent, draft._key = parent, route[-1]
        if self.moved:
            self.tracker.epoch += 1
