"""What two clients hold, compared: the first difference, as a short excerpt for people.

Invariants: pure. Equality is JSON's: `1` and `true` differ. An excerpt begins shortly before the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

BEFORE: Final = 20
SHOWN: Final = 60

Texts = Mapping[str, str]
"""The texts that a client holds, by a name for each that never changes. They only grow."""


def first_difference(expected: Any, got: Any, path: str = "") -> str | None:
    """Where they differ first, and how. None if they are the same."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in [*expected, *(name for name in got if name not in expected)]:
            where = f"{path}.{name}" if path else str(name)
            if name not in expected or name not in got:
                return _sentence(where, expected.get(name, MISSING), got.get(name, MISSING))
            if (found := first_difference(expected[name], got[name], where)) is not None:
                return found
        return None
    if isinstance(expected, list) and isinstance(got, list):
        for index in range(max(len(expected), len(got))):
            where = f"{path}[{index}]"
            if index >= len(expected) or index >= len(got):
                pair = [values[index] if index < len(values) else MISSING for values in (expected, got)]
                return _sentence(where, *pair)
            if (found := first_difference(expected[index], got[index], where)) is not None:
                return found
        return None
    if type(expected) is type(got) and expected == got:
        return None
    return _sentence(path, expected, got)


MISSING: Final = object()


def _sentence(path: str, expected: Any, got: Any) -> str:
    start = 0
    if isinstance(expected, str) and isinstance(got, str):
        start = _same(expected, got)
    return f"expected {path or 'it'} to be {_excerpt(expected, start)}, got {_excerpt(got, start)}"


def _same(one: str, other: str) -> int:
    """How many characters they begin with alike."""
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _excerpt(value: Any, start: int = 0) -> str:
    if value is MISSING:
        return "nothing"
    if isinstance(value, str):
        begin = max(0, start - BEFORE)
        text = ("…" if begin else "") + value[begin : begin + SHOWN]
        return repr(text + ("…" if len(value) > begin + SHOWN else ""))
    text = orjson.dumps(value).decode()
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def not_a_beginning(earlier: Texts, whole: Texts) -> str | None:
    """Which of the earlier texts is not the beginning of the same text in the end. None if all are."""
    for name, text in earlier.items():
        final = whole.get(name)
        if final is None:
            return f"expected {name} to stay, got nothing in place of {_excerpt(text)}"
        if not final.startswith(text):
            at = _same(text, final)
            return f"expected {name} to begin with what had arrived, {_excerpt(text, at)}, got {_excerpt(final, at)}"
    return None
