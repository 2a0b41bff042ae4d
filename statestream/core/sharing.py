"""A plain copy of a value that shares what has not changed with an earlier plain value.

A view returns all of what it shows after each change, and nearly all of that is as it was. Comparing it with what was
shown before is much cheaper than copying it, and the parts that are shared are found by identity when the two are
compared for a patch.

Invariants: pure. The result is the same JSON as that of `plain`, and the same values are refused with the same errors.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from statestream.core.errors import NotJSON
from statestream.core.values import check_member, escape, plain

DEEP: Final = 8
"""From here on, everything is copied: each level compares all that is below it."""
EXACT: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def shared(value: Any, known: Any, depth: int = 0, parent_key: str = "") -> Any:
    """`plain(value)`, made of parts of `known`, a plain value that is never changed, as far as they are the same."""
    kind = type(value)
    if kind is not type(known) or kind not in (dict, list) or depth >= DEEP:
        return plain(value, depth, parent_key)
    if kind is dict:
        return _shared_dict(value, known, depth, parent_key)
    return _shared_list(value, known, depth, parent_key)


def _are_same(some: list[Any], others: list[Any]) -> bool:
    """Whether equal values are the same JSON in the same order: 1, 1.0 and True are equal, and so are other types."""
    return orjson.dumps(some, option=EXACT) == orjson.dumps(others)


def _same_members(value: dict[Any, Any], known: dict[str, Any]) -> set[str] | None:
    """The keys whose values are the same; None if some are equal, but not the same."""
    try:
        keys = {key for key, item in value.items() if key in known and item == known[key]}
        same = _are_same([value[key] for key in keys], [known[key] for key in keys])
    except Exception:  # objects of other types may raise anything when they are compared; `plain` says what is wrong
        return None
    return keys if same else None


def _same_ends(value: list[Any], known: list[Any]) -> tuple[int, int] | None:
    """How many elements are the same at the beginning and at the end; None if some are equal, but not the same.

    What is between was changed, or moved.
    """
    shortest = min(len(value), len(known))
    try:
        start = next((at for at in range(shortest) if value[at] != known[at]), shortest)
        end = next((at for at in range(shortest - start) if value[-1 - at] != known[-1 - at]), shortest - start)
        mine, theirs = (each[:start] + each[len(each) - end :] for each in (value, known))
        same = _are_same(mine, theirs)
    except Exception:  # see above
        return None
    return (start, end) if same else None


def _shared_dict(value: dict[Any, Any], known: dict[str, Any], depth: int, parent_key: str) -> dict[str, Any]:
    same = _same_members(value, known)
    if same is None:
        copy: dict[str, Any] = plain(value, depth, parent_key)
        return copy
    if len(same) == len(value) == len(known):
        return known
    copy = {key: item for key, item in known.items() if key in same}
    for key, item in value.items():
        if key not in same:
            name = check_member(key, parent_key)
            try:
                copy[name] = shared(item, known.get(name), depth + 1, name)
            except NotJSON as error:
                raise error.under(escape(name)) from None
    return copy


def _shared_list(value: list[Any], known: list[Any], depth: int, parent_key: str) -> list[Any]:
    same = _same_ends(value, known)
    if same is None:
        copy: list[Any] = plain(value, depth, parent_key)
        return copy
    start, end = same
    if start == len(value) == len(known):
        return known
    edited = len(value) == len(known)
    copy = known[:start]
    for index in range(start, len(value) - end):
        try:
            copy.append(shared(value[index], known[index] if edited else None, depth + 1))
        except NotJSON as error:
            raise error.under(str(index)) from None
    return copy + known[len(known) - end :]
