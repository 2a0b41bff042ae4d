"""The drafts that handlers receive: the operations of dict and list.

Invariants: they behave like dict and list, except where JSON forbids it: a draft that still has its place is copied
when it is put elsewhere, and changing the size during iteration raises for lists too. Single writes are recorded one by
one; everything that rewrites a whole container goes through `_rewrite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from functools import partial
from typing import Any, Final, Self, SupportsIndex, cast

from statestream.core.draft.tracker import MISSING, Draft, Intake, bare, frozen
from statestream.core.errors import NotJSON
from statestream.core.values import check_member


class DictDraft(Draft, MutableMapping[str, Any]):
    """A draft of a JSON object. Not a dict for isinstance; equal to a dict with the same content."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, key: str) -> Any:
        return self._child(key, self._data[key])

    def __setitem__(self, key: str, value: Any) -> None:
        old = self._data.get(key, MISSING)
        if old is MISSING or type(key) is not str:  # a key that exists has been checked
            try:
                key = check_member(key, self._key)
            except NotJSON as error:
                raise error.at(self._path() or "") from None
        self._put(key, old, value)

    def __delitem__(self, key: str) -> None:
        old = self._data[key]
        if self._shared:
            self._become(
                self._data.copy()
            )  # undoing could not restore the order of the keys, so this recipe gets a copy
        self._own()
        self._detach(old)
        del self._data[key]
        path = self._path()
        if path is not None:
            self._record_set(path, key, old, MISSING)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        size = len(self._data)
        for key in self._data:
            yield key
            if len(self._data) != size:
                raise RuntimeError("dictionary changed size during iteration; iterate over list(draft)")

    def __reversed__(self) -> Iterator[str]:
        return iter(list(self._data)[::-1])

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self._data:
            self[key] = default
        return self[key]

    def popitem(self) -> tuple[str, Any]:
        if not self._data:
            raise KeyError("popitem(): dictionary is empty")
        key = next(reversed(self._data))
        return key, self.pop(key)

    def update(self, *others: Any, **more: Any) -> None:
        ready = dict(*others, **more)
        with self._tracker.as_one():
            super().update(ready)

    def clear(self) -> None:
        self._rewrite({})

    def copy(self) -> dict[str, Any]:
        """A plain dict, one level deep, like dict(draft)."""
        return dict(self)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self} if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]  # a dict, like dict | dict, not another draft
        self.update(other)
        return self


class ListDraft(Draft, MutableSequence[Any]):
    """A draft of a JSON array. Not a list for isinstance; equal to a list with the same content."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, index: Any) -> Any:
        value = self._data[index]
        if (kind := type(value)) is not dict and kind is not list:
            return value
        if type(index) is slice:
            return [self._child(at, self._data[at]) for at in range(*index.indices(len(self._data)))]
        return self._child(index if index >= 0 else index + len(self._data), value)

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(index) is slice:
            content = list(self)
            content[index] = value
            self._rewrite(content)
            return
        self._put(range(len(self._data))[index], self._data[index], value)  # also raises NotJSON with its place

    def __delitem__(self, index: Any) -> None:
        if isinstance(index, slice):
            content = list(self)
            del content[index]
            self._rewrite(content)
        else:
            self._delete(range(len(self._data))[index])

    def _delete(self, at: int) -> None:
        self._own()
        old = self._data.pop(at)
        if self._shared:
            self._undo_with(partial(self._data.insert, at, old))
        self._detach(old)
        self._written = None
        path = self._path()
        if path is not None:
            self._tracker.ops.append({"op": "remove", "path": f"{path}/{at}"})

    def insert(self, index: SupportsIndex, value: Any) -> None:
        at = slice(index, None).indices(len(self._data))[0]
        intake = Intake(self._tracker, self, None)
        try:
            raw = intake.take(value, self._depth(), (at,))
        except NotJSON as error:
            raise error.at(f"{self._path() or ''}/{at}{error.place}") from None
        self._own()
        self._data.insert(at, raw)
        if self._shared:
            self._undo_with(partial(self._data.__delitem__, at))
        self._written = None
        intake.settle()
        path = self._path()
        if path is not None:
            self._tracker.ops.append({"op": "add", "path": f"{path}/{at}", "value": frozen(raw)})

    def append(self, value: Any) -> None:
        self.insert(len(self._data), value)

    def extend(self, values: Iterable[Any]) -> None:
        ready = list(values)
        with self._tracker.as_one():
            for value in ready:
                self.append(value)

    def pop(self, index: SupportsIndex = -1) -> Any:
        value = self[index]
        self._delete(range(len(self._data))[index])
        return value

    def remove(self, value: Any) -> None:
        self._delete(self.index(value))

    def clear(self) -> None:
        self._rewrite([])

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        self._rewrite(sorted(self, key=cast("Any", key), reverse=reverse))

    def reverse(self) -> None:
        self._rewrite(list(self)[::-1])

    def copy(self) -> list[Any]:
        """A plain list, one level deep, like list(draft)."""
        return list(self)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        end = len(self._data) if stop is None else stop
        return int(self._data.index(bare(value), start, end))

    def count(self, value: Any) -> int:
        return int(self._data.count(bare(value)))

    def __contains__(self, value: object) -> bool:
        return bare(value) in self._data

    def __iter__(self) -> Iterator[Any]:
        size = len(self._data)
        for index in range(size):
            yield self._child(index, self._data[index])
            if len(self._data) != size:
                raise RuntimeError("list changed size during iteration; iterate over list(draft)")

    def __reversed__(self) -> Iterator[Any]:
        return iter(list(self)[::-1])

    def __add__(self, other: Iterable[Any]) -> list[Any]:
        return [*self, *other] if isinstance(other, (list, ListDraft)) else NotImplemented

    def __radd__(self, other: Iterable[Any]) -> list[Any]:
        return [*other, *self] if isinstance(other, list) else NotImplemented

    def __iadd__(self, values: Iterable[Any]) -> Self:
        self.extend(values)
        return self

    def __mul__(self, times: SupportsIndex) -> list[Any]:
        return list(self) * times

    __rmul__ = __mul__

    def __imul__(self, times: SupportsIndex) -> Self:
        self._rewrite(list(self) * times)
        return self

    def __lt__(self, other: Sequence[Any]) -> bool:
        return bool(self._data < bare(other))

    def __le__(self, other: Sequence[Any]) -> bool:
        return bool(self._data <= bare(other))

    def __gt__(self, other: Sequence[Any]) -> bool:
        return bool(self._data > bare(other))

    def __ge__(self, other: Sequence[Any]) -> bool:
        return bool(self._data >= bare(other))


KINDS: Final[Mapping[type[Any], type[Draft]]] = {dict: DictDraft, list: ListDraft}
