"""JSON values: what state and payloads may consist of.

Invariants: the limits of the protocol (depth, numbers, text, keys) are here and nowhere else. A value that passed
`plain` can be encoded by orjson, decoded by any client, and applied by JavaScript without touching a prototype. Two
values are the same if their JSON is: 1, 1.0 and True differ.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from numbers import Integral
from typing import Any, Final, NoReturn

import orjson

from statestream.core.errors import NotJSON

MAX_DEPTH: Final = 64
MAX_INT: Final = 2**53 - 1
MAX_VALUES: Final = 50_000
"""Values and containers in one text from outside. Checking a value takes a microsecond, and an empty list takes only
three bytes: without a limit, a body of 1 MiB could take a second.
"""
_PERILOUS: Final = frozenset({"__proto__", "prototype"})
"""Keys that are refused; the second one only below `constructor`."""


def plain(value: Any, depth: int = 0, parent_key: str = "") -> Any:
    """A deep copy of `value` that consists of dict, list, str, int, float, bool and None only.

    Mappings become dicts, sequences lists, and subclasses of str and int and the scalars of numpy plain values. `depth`
    is the number of containers around the value. Raises NotJSON with the place of the first problem.
    """
    kind = type(value)
    check = SCALARS.get(kind)
    if check is not None:
        return check(value)
    if kind is dict:
        check_depth(depth)
        return _plain_dict(value, depth + 1, parent_key)
    return _plain_of_another_kind(value, depth, parent_key)


def _plain_of_another_kind(value: Any, depth: int, parent_key: str) -> Any:
    if isinstance(value, str):
        return check_text("".join(value))
    if isinstance(value, int):
        return check_int(int.__int__(value))
    if isinstance(value, float):
        return check_float(float(value))
    if isinstance(value, Mapping):
        check_depth(depth)
        return _plain_dict(value, depth + 1, parent_key)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        check_depth(depth)
        return _plain_list(value, depth + 1)
    scalar = scalar_of(value)
    if type(scalar) in SCALARS:
        return SCALARS[type(scalar)](scalar)
    raise not_json(value)


def scalar_of(value: Any) -> Any:
    """The Python value of an integer of another library, or of a scalar of numpy; anything else as it is.

    A scalar of numpy is recognized by its members, so that numpy need not be installed.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "dtype"):
        return value.item()
    return int(value) if isinstance(value, Integral) else value


_CONVERSIONS: Final[Sequence[tuple[str, str]]] = (
    ("model_dump", "model_dump(mode='json')"),
    ("__struct_fields__", "msgspec.to_builtins(…)"),
    ("__dataclass_fields__", "dataclasses.asdict(…)"),
    ("tolist", "tolist()"),
    ("isoformat", "isoformat()"),
    ("total_seconds", "total_seconds()"),
    ("as_integer_ratio", "str(…), or float(…) if it may be rounded"),
    ("decode", "decode()"),
    ("hex", "str(…)"),
    ("__fspath__", "str(…)"),
    ("__next__", "list(…)"),
    ("isdisjoint", "sorted(…), because a set has no order"),
)
"""How to convert a value that is not JSON, by a member that reveals its kind."""


def not_json(value: Any) -> NotJSON:
    if isinstance(value, Enum):
        return NotJSON(f"expected a JSON value, got {type(value).__name__}; convert it first: .value")
    ways = (way for member, way in _CONVERSIONS if hasattr(value, member))
    way = None if isinstance(value, type) else next(ways, None)
    return NotJSON(f"expected a JSON value, got {type(value).__name__}{f'; convert it first: {way}' if way else ''}")


def _plain_dict(value: Mapping[Any, Any], depth: int, parent_key: str) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for key, item in value.items():
        name = check_member(key, parent_key)
        check = SCALARS.get(type(item))
        try:
            copy[name] = plain(item, depth, name) if check is None else check(item)
        except NotJSON as error:
            raise error.under(escape(name)) from None
    return copy


def _plain_list(value: Sequence[Any], depth: int) -> list[Any]:
    copy = []
    for index, item in enumerate(value):
        try:
            copy.append(plain(item, depth))
        except NotJSON as error:
            raise error.under(str(index)) from None
    return copy


def check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise NotJSON(f"containers are nested more than {MAX_DEPTH} deep", limit=True)


def check_member(key: Any, parent_key: str | int = "") -> str:
    """The key of an object member as a plain str. Raises NotJSON for keys that are dangerous in JavaScript."""
    if type(key) is str and key not in _PERILOUS and key.isascii():
        return key  # nearly all are like that
    if not isinstance(key, str):
        raise NotJSON(f"expected a string as a key, got {type(key).__name__}")
    if key == "__proto__" or (key == "prototype" and parent_key == "constructor"):
        raise NotJSON(f"the key {key!r} is not allowed: it would change a prototype in JavaScript clients", limit=True)
    return check_text(key if type(key) is str else "".join(key))


def check_text(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotJSON("the text contains a lone surrogate, which is not valid Unicode") from None
    return text


def check_int(number: int) -> int:
    if not -MAX_INT <= number <= MAX_INT:
        raise NotJSON("the integer is outside ±(2^53-1); send it as a string", limit=True)
    return number


def check_settings(**numbers: Any) -> None:
    """Raises TypeError and ValueError for a setting that is not a number above 0, with the name of the setting."""
    for name, value in numbers.items():
        if not isinstance(value, (int, float)):
            raise TypeError(f"expected `{name}` to be a number, got {type(value).__name__}")
        if value <= 0:
            raise ValueError(f"expected `{name}` to be more than 0, got {value}")


def check_float(number: float) -> float:
    if not math.isfinite(number):
        raise NotJSON(f"expected a finite number, got {number}", limit=True)
    return number


def _as_it_is(value: Any) -> Any:
    return value


SCALARS: Final[Mapping[type[Any], Callable[[Any], Any]]] = {
    str: check_text,
    int: check_int,
    float: check_float,
    bool: _as_it_is,
    type(None): _as_it_is,
}
"""The check of each kind of scalar. Most values are scalars, and take one step this way."""


def loads(data: bytes) -> Any:
    """The value of JSON text from outside. Stricter than RFC 8259: no duplicate keys, and the limits above."""
    _check_count(data)
    try:
        text = data.decode()
        value = json.loads(text, object_pairs_hook=_members, parse_constant=_no_constant, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise NotJSON(f"the text is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotJSON(f"the text is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise NotJSON(f"containers are nested more than {MAX_DEPTH} deep") from None
    return plain(value)


def _check_count(data: bytes) -> None:
    """Raises NotJSON if there are more than MAX_VALUES, before any of them is parsed."""
    if _elements(data) <= MAX_VALUES:  # commas in strings are counted too, but hardly any text has that many
        return
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') <= 4 * MAX_VALUES and _elements(b"".join(unescaped.split(b'"')[::2])) <= MAX_VALUES:
        return
    raise NotJSON(f"there are more than {MAX_VALUES:,} values; send them in several requests")


def _elements(data: bytes) -> int:
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotJSON("an object contains the same key twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise NotJSON(f"expected a finite number, got {name}")


def _integer(digits: str) -> int:
    if len(digits) > 17:
        raise NotJSON("the integer is outside ±(2^53-1); send it as a string")
    return int(digits)


def escape(segment: str) -> str:
    """One segment of an RFC 6901 pointer."""
    return segment.replace("~", "~0").replace("/", "~1")


def encode(value: Any) -> bytes:
    """The JSON text of a plain value, in no more memory than it needs, so that it can be kept.

    orjson returns the buffer that it wrote to, which has at least 4 kB. `%b` makes a copy of the right size; `bytes()`
    would return the same object.
    """
    return b"%b" % orjson.dumps(value)


def canonical(value: Any) -> bytes:
    """The JSON text with sorted keys: two values have the same text if and only if they are the same value."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def same(one: Any, other: Any) -> bool:
    """Whether two plain values are the same JSON."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if type(one) is dict or type(one) is list:
        return len(one) == len(other) and canonical(one) == canonical(other)
    return bool(one == other)
