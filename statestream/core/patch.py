"""RFC 6902 between two plain values: finding the operations, and applying them.

`diff` is for handlers that return a new value or rewrite a whole list. It skips what is the same object, compares the
rest as JSON does (1, 1.0 and True differ), and looks for list elements by identity before it looks at their content.
`apply_patch` applies operations with jsonpatch.

Invariants: pure. Only `add`, `remove` and `replace` are produced, with explicit array indices, in the order in which
they must be applied.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import jsonpatch
import jsonpointer
import orjson

from statestream.core.errors import Gap
from statestream.core.values import canonical, escape, same

Op = dict[str, Any]

LONG: Final = 100
SHORTEST_OP: Final = len('{"op":"remove","path":"/0"}')
MAX_PATH: Final = 10_000
"""Longer than the path of any list, as a rule. If it is longer, nothing is wrong, only more is sent."""


def apply_patch(document: Any, operations: list[Op]) -> Any:
    """Applies operations to a document in place, all of them or none, and returns it.

    Returns another object only if the root itself is replaced. Raises Gap if the operations do not fit.
    """
    try:
        return jsonpatch.JsonPatch(operations).apply(document, in_place=True, atomic=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError) as error:
        raise Gap(f"the patch does not fit the document ({error}); start again") from None


def diff(old: Any, new: Any, path: str = "") -> list[Op]:
    """The operations that turn `old` into `new`, both plain values; none if they are the same JSON.

    Values in the operations are those of `new`, not copies. The cost is the width of the containers that are not the
    same object, plus the encoding of list elements that are not found by identity.
    """
    ops: list[Op] = []
    _differ(old, new, path, ops)
    return ops


def change(old: Any, new: Any, path: str) -> list[Op]:
    """Like `diff`, but one replacement of the whole value if that is shorter."""
    ops: list[Op] = []
    _differ_element(old, new, path, ops)
    return ops


def _differ(old: Any, new: Any, path: str, ops: list[Op]) -> None:
    if old is new:
        return
    if type(old) is dict and type(new) is dict:
        _differ_dict(old, new, path, ops)
    elif type(old) is list and type(new) is list:
        _differ_list(old, new, path, ops)
    elif type(old) is not type(new) or old != new:
        ops.append({"op": "replace", "path": path, "value": new})


def _differ_dict(old: dict[str, Any], new: dict[str, Any], path: str, ops: list[Op]) -> None:
    if not old.keys() <= new.keys():
        ops.extend({"op": "remove", "path": f"{path}/{escape(key)}"} for key in old if key not in new)
    for key, value in new.items():
        if key not in old:
            ops.append({"op": "add", "path": f"{path}/{escape(key)}", "value": value})
        elif old[key] is not value:
            _differ(old[key], value, f"{path}/{escape(key)}", ops)


def _differ_list(old: list[Any], new: list[Any], path: str, ops: list[Op]) -> None:
    start, old_end, new_end = _trim(old, new)
    before, after = old[start:old_end], new[start:new_end]
    kept = _kept(before, after)
    if _surely_longer(before, after, len(kept), new):
        ops.append({"op": "replace", "path": path, "value": new})
        return
    own: list[Op] = []
    for at, gone, come in _gaps(before, after, kept):
        index = start + at
        for was, now in zip(gone, come, strict=False):
            _differ_element(was, now, f"{path}/{index}", own)
            index += 1
        for _ in come[len(gone) :]:
            own.append({"op": "add", "path": f"{path}/{index}", "value": new[index]})
            index += 1
        own.extend({"op": "remove", "path": f"{path}/{index}"} for _ in gone[len(come) :])
    if _longer(own, new, path):
        own = [{"op": "replace", "path": path, "value": new}]
    ops.extend(own)


def _differ_element(old: Any, new: Any, path: str, ops: list[Op]) -> None:
    """Two values at the same place that are not the same: one that changed, or two that have nothing in common."""
    inner: list[Op] = []
    _differ(old, new, path, inner)
    if _longer(inner, new, path):
        inner = [{"op": "replace", "path": path, "value": new}]
    ops.extend(inner)


def _longer(ops: list[Op], new: Any, path: str) -> bool:
    """Whether the operations are longer than the new value. A few operations on a large value are not measured."""
    if len(ops) < 2 or len(ops) * 8 < len(new):
        return False
    return len(orjson.dumps(ops)) > len(orjson.dumps(new)) + len(path) + 40


def _surely_longer(before: list[Any], after: list[Any], kept: int, new: list[Any]) -> bool:
    """Whether the operations are longer than the new list, known before they are made: there may be 100,000 of them."""
    most = max(len(before), len(after)) - kept
    if most < LONG or not {*map(type, before), *map(type, after)}.isdisjoint((dict, list)):
        return False
    return most * SHORTEST_OP > len(orjson.dumps(new)) + MAX_PATH


def _trim(old: list[Any], new: list[Any]) -> tuple[int, int, int]:
    """The first index and the two ends of what remains without the equal elements at both ends."""
    start, old_end, new_end = 0, len(old), len(new)
    shortest = min(old_end, new_end)
    while start < shortest and (old[start] is new[start] or same(old[start], new[start])):
        start += 1
    while old_end > start and new_end > start and same(old[old_end - 1], new[new_end - 1]):
        old_end -= 1
        new_end -= 1
    return start, old_end, new_end


def _gaps(old: list[Any], new: list[Any], kept: list[tuple[int, int]]) -> Iterator[tuple[int, list[Any], list[Any]]]:
    """What is between the elements that both lists have in order: the index in `new`, what was removed and added."""
    old_at = new_at = 0
    for old_index, new_index in kept:
        if old_index > old_at or new_index > new_at:
            yield new_at, old[old_at:old_index], new[new_at:new_index]
        old_at, new_at = old_index + 1, new_index + 1
    yield new_at, old[old_at:], new[new_at:]


def _kept(old: list[Any], new: list[Any]) -> list[tuple[int, int]]:
    """A longest sequence of elements that both lists have in the same order, as pairs of indices."""
    if not old or not new:
        return []
    return _longest_increasing(_match(old, new))


def _match(old: list[Any], new: list[Any]) -> list[tuple[int, int]]:
    """Pairs of indices of equal elements in `old` and `new`, found by identity first, then by content."""
    old_keys, new_keys = _identities(old, new)
    place = dict(zip(old_keys, range(len(old)), strict=True))
    if len(place) == len(old):
        pairs, strangers = _match_unique(place, new, new_keys)
        places: dict[Any, deque[int]] = {key: deque((index,)) for key, index in place.items()} if strangers else {}
    else:
        pairs, strangers, places = _match_repeated(old_keys, new, new_keys)
    if strangers:
        pairs.extend(_match_content(old, new, places, strangers))
        pairs.sort(key=lambda pair: pair[1])
    return pairs


def _match_unique(
    place: dict[Any, int], new: list[Any], new_keys: Sequence[Any]
) -> tuple[list[tuple[int, int]], list[int]]:
    """The pairs if no two elements of the old list are equal, and the containers that were not found."""
    pairs: list[tuple[int, int]] = []
    strangers: list[int] = []
    for index, key in enumerate(new_keys):
        found = place.pop(key, None)
        if found is not None:
            pairs.append((found, index))
        elif type(new[index]) in (dict, list):
            strangers.append(index)
    return pairs, strangers


def _match_repeated(
    old_keys: Sequence[Any], new: list[Any], new_keys: Sequence[Any]
) -> tuple[list[tuple[int, int]], list[int], dict[Any, deque[int]]]:
    """The pairs in any case, the containers that were not found, and what is left of the old list, by its keys."""
    places: defaultdict[Any, deque[int]] = defaultdict(deque)
    for index, key in enumerate(old_keys):
        places[key].append(index)
    pairs: list[tuple[int, int]] = []
    strangers: list[int] = []
    for index, key in enumerate(new_keys):
        found = places.get(key)
        if found:
            pairs.append((found.popleft(), index))
        elif type(new[index]) in (dict, list):
            strangers.append(index)
    return pairs, strangers, places


def _match_content(
    old: list[Any], new: list[Any], places: dict[Any, deque[int]], strangers: list[int]
) -> Iterator[tuple[int, int]]:
    left: defaultdict[bytes, deque[int]] = defaultdict(deque)
    for index in sorted(index for found in places.values() for index in found):
        if type(old[index]) in (dict, list):
            left[canonical(old[index])].append(index)
    for index in strangers if left else ():
        found = left.get(canonical(new[index]))
        if found:
            yield found.popleft(), index


def _identities(old: list[Any], new: list[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """For each element something hashable that is the same for the same element. A list of one kind needs no tuples."""
    kinds = {*map(type, old), *map(type, new)}
    if len(kinds) == 1 and kinds <= {int, str}:
        return old, new
    if kinds <= {dict, list}:
        return list(map(id, old)), list(map(id, new))
    return list(map(_identity, old)), list(map(_identity, new))


def _identity(element: Any) -> Any:
    return id(element) if type(element) in (dict, list) else (type(element), element)


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """A longest subsequence whose old indices rise as well (patience sorting, n log n)."""
    tails: list[int] = []
    tops: list[int] = []
    before: list[int] = []
    for at, (old_index, _) in enumerate(pairs):
        pile = len(tails) if not tails or old_index > tails[-1] else bisect_left(tails, old_index)
        before.append(tops[pile - 1] if pile else -1)
        if pile == len(tails):
            tails.append(old_index)
            tops.append(at)
        else:
            tails[pile] = old_index
            tops[pile] = at
    chain: list[tuple[int, int]] = []
    at = tops[-1] if tops else -1
    while at >= 0:
        chain.append(pairs[at])
        at = before[at]
    return chain[::-1]
