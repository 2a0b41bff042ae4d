"""Names, keys, texts and comments, as TypeScript writes them.

Invariants: pure. Whatever a text contains, it ends where it should: quotes, `*/`, line breaks and characters that are
not seen, such as marks of another writing direction, cannot change what follows.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, Final

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*", re.ASCII)
_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_$]")
TAKEN: Final = ("State", "Actions")


def identifier(name: str) -> str:
    """A name for a type: the same one, as far as TypeScript allows it. One of small letters may be a keyword."""
    found = _NOT_ALLOWED.sub("_", name)
    if not _IDENTIFIER.fullmatch(found):
        found = f"_{found}"
    return f"{found}_" if found in TAKEN or (found.isalpha() and found.islower()) else found


def member(key: str) -> str:
    """The key of a member."""
    return key if _IDENTIFIER.fullmatch(key) and key != "__proto__" else literal(key)


def literal(value: Any) -> str:
    """The type of one value."""
    if not isinstance(value, str):
        return json.dumps(value) if value is None or isinstance(value, (bool, float, int)) else "unknown"
    return "".join(_visible(character) for character in json.dumps(value, ensure_ascii=False))


def comment(text: str | None) -> str:
    """The lines of a comment, with the line break after it; empty without a text."""
    lines = [
        "".join(map(_visible, line)).replace("*/", "*\\/").rstrip()
        for line in inspect.cleandoc((text or "").replace("\r", "\n")).split("\n")
    ]
    if not any(lines):
        return ""
    if len(lines) == 1:
        return f"/** {lines[0]} */\n"
    return "\n".join(["/**", *(f" * {line}".rstrip() for line in lines), " */"]) + "\n"


def _visible(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
