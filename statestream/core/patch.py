"""RFC 6902 between two plain values: the difference, and the replay.

`diff` serves handlers that return a new value or rewrite a whole list: it skips what is the same
object, compares the rest as JSON does (1, 1.0 and True differ), and finds list elements by identity
before it looks at their content. `replay` applies operations with jsonpatch.

Invariants: pure; only `add`, `remove` and `replace` are produced, array positions are explicit indices.
Operations are given in the order in which they must be applied.
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
    """The document after the operations, changed in place, all of them or none.

    Returns another object only where the root itself is replaced. Raises Gap if they do not fit.
    """
    try:
        return jsonpatch.JsonPatch(operations).apply(document, in_place=True, atomic=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError) as error:
        raise Gap(f"expected a patch for what is held, got one that does not fit ({error}); start again") from None


def diff(old: Any, new: Any, path: str = "") -> list[Op]:
    """Operations that turn `old` into `new`, both plain; empty if they are the same JSON.

    Values in the operations are those of `new`, not copies. Cost: the width of the containers that
    are not the same object, plus the encoding of elements that identity does not explain.
    """
    ops: list[Op] = []
    _differ(old, new, path, ops)
    return ops


def change(old: Any, new: Any, path: str) -> list[Op]:
    """Like `diff`, but one replacement of the whole where that says it shorter."""
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
        index += 1  # the element that both keep, behind the gap
    if _longer(own, new, path):
        own = [{"op": "replace", "path": path, "value": new}]
    ops.extend(own)


def _differ_element(old: Any, new: Any, path: str, ops: list[Op]) -> None:
    """Two values at the same place that are not the same: changed, or another one altogether."""
    inner: list[Op] = []
    _differ(old, new, path, inner)
    if _longer(inner, new, path):
        inner = [{"op": "replace", "path": path, "value": new}]
    ops.extend(inner)


def _longer(ops: list[Op], new: Any, path: str) -> bool:
    """Whether the operations say it longer than the new value would. Few operations on much are not measured."""
    if len(ops) < 2 or len(ops) * 8 < len(new):
        return False
    return len(orjson.dumps(ops)) > len(orjson.dumps(new)) + len(path) + 40


def _trim(old: list[Any], new: list[Any]) -> tuple[int, int, int]:
    """Without what is the same at both ends: the first index, and the two ends."""
    start, old_end, new_end = 0, len(old), len(new)
    shortest = min(old_end, new_end)
    while start < shortest and same(old[start], new[start]):
        start += 1
    while old_end > start and new_end > start and same(old[old_end - 1], new[new_end - 1]):
        old_end -= 1
        new_end -= 1
    return start, old_end, new_end


def _gaps(old: list[Any], new: list[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """What lies between the elements that both lists keep in order: (gone, come), the last gap included."""
    old_at = new_at = 0
    for old_index, new_index in _kept(old, new):
        yield old[old_at:old_index], new[new_at:new_index]
        old_at, new_at = old_index + 1, new_index + 1
    yield old[old_at:], new[new_at:]


def _kept(old: list[Any], new: list[Any]) -> list[tuple[int, int]]:
    """A longest run of elements that stand in both lists in the same order, as index pairs."""
    if not old or not new:
        return []
    return _longest_increasing(_match(old, new))


def _match(old: list[Any], new: list[Any]) -> list[tuple[int, int]]:
    """Each element of `new` with an equal one of `old`: first by identity, then by content."""
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
    """The longest subsequence whose old indices rise too (patience sorting, n log n)."""
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
