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
from collections.abc import Iterator
from typing import Any

import jsonpatch
import jsonpointer
import orjson

from statestream.core.errors import Gap
from statestream.core.values import canonical, escape, same

Op = dict[str, Any]


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
    ops.extend({"op": "remove", "path": f"{path}/{escape(key)}"} for key in old if key not in new)
    for key, value in new.items():
        if key not in old:
            ops.append({"op": "add", "path": f"{path}/{escape(key)}", "value": value})
        elif old[key] is not value:
            _differ(old[key], value, f"{path}/{escape(key)}", ops)


def _differ_list(old: list[Any], new: list[Any], path: str, ops: list[Op]) -> None:
    start, old_end, new_end = _trim(old, new)
    own: list[Op] = []
    index = start
    for gone, come in _gaps(old[start:old_end], new[start:new_end]):
        for was, now in zip(gone, come, strict=False):
            _differ_element(was, now, f"{path}/{index}", own)
            index += 1
        for _ in come[len(gone) :]:
            own.append({"op": "add", "path": f"{path}/{index}", "value": new[index]})
            index += 1
        own.extend({"op": "remove", "path": f"{path}/{index}"} for _ in gone[len(come) :])
        index += 1  # the element after the gap, which both lists have
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


def _trim(old: list[Any], new: list[Any]) -> tuple[int, int, int]:
    """The first index and the two ends of what remains without the equal elements at both ends."""
    start, old_end, new_end = 0, len(old), len(new)
    shortest = min(old_end, new_end)
    while start < shortest and same(old[start], new[start]):
        start += 1
    while old_end > start and new_end > start and same(old[old_end - 1], new[new_end - 1]):
        old_end -= 1
        new_end -= 1
    return start, old_end, new_end


def _gaps(old: list[Any], new: list[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """What is between the elements that both lists have in order: pairs (removed, added), including the last gap."""
    old_at = new_at = 0
    for old_index, new_index in _kept(old, new):
        yield old[old_at:old_index], new[new_at:new_index]
        old_at, new_at = old_index + 1, new_index + 1
    yield old[old_at:], new[new_at:]


def _kept(old: list[Any], new: list[Any]) -> list[tuple[int, int]]:
    """A longest sequence of elements that both lists have in the same order, as pairs of indices."""
    if not old or not new:
        return []
    return _longest_increasing(_match(old, new))


def _match(old: list[Any], new: list[Any]) -> list[tuple[int, int]]:
    """Pairs of indices of equal elements in `old` and `new`, found by identity first, then by content."""
    places: defaultdict[Any, deque[int]] = defaultdict(deque)
    for index, element in enumerate(old):
        places[_identity(element)].append(index)
    pairs: list[tuple[int, int]] = []
    strangers: list[int] = []
    for index, element in enumerate(new):
        found = places.get(_identity(element))
        if found:
            pairs.append((found.popleft(), index))
        elif type(element) in (dict, list):
            strangers.append(index)
    if strangers:
        pairs.extend(_match_content(old, new, places, strangers))
        pairs.sort(key=lambda pair: pair[1])
    return pairs


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


def _identity(element: Any) -> Any:
    return id(element) if type(element) in (dict, list) else (type(element), element)


def _longest_increasing(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """A longest subsequence whose old indices rise as well (patience sorting, n log n)."""
    tails: list[int] = []
    tops: list[int] = []
    before: list[int] = []
    for at, (old_index, _) in enumerate(pairs):
        pile = bisect_left(tails, old_index)
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
