"""The names of slices, keys and requests, each of which has exactly one spelling.

Invariants: every name from outside is checked here. Names contain nothing that must be escaped in JSON, in an SSE field
or, apart from percent signs, in the path of a URL.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from statestream.core.errors import Malformed
from statestream.core.suggestions import named

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_KEY = re.compile(r"(?:[A-Za-z0-9._~:@-]|%[0-9A-F]{2})+", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
MAX_KEY: Final = 128
_KEY_SAFE: Final = ":@"  # beside what `quote` never escapes: letters, digits, _ . - ~


def check_name(name: str) -> str:
    if not _matches(_NAME, name, "the name of a slice"):
        hint = "; leave out the blanks" if _NAME.fullmatch(name.strip()) else ""
        raise Malformed(
            "expected a slice name of a-z, 0-9 and _ that starts with a letter and has at most 64 characters, "
            f"got{named(name) or (' another text' if name else ' none')}{hint}"
        )
    return name


def check_key(key: str) -> str:
    """The key itself, if it has the one spelling that `escape_key` gives it. Raises Malformed."""
    if not _matches(_KEY, key, "a key") or len(key) > MAX_KEY:
        raise Malformed(
            f"expected a key of 1-{MAX_KEY} characters A-Za-z0-9._~:@-, with everything else percent-encoded"
            f"{_spelt(key)}"
        )
    if "%" not in key:
        return key  # nothing is encoded, and nothing needs to be: nearly all keys are like that
    try:
        text = unquote(key, errors="strict")
    except UnicodeDecodeError:
        text = ""
    if quote(text, safe=_KEY_SAFE) != key:
        raise Malformed(
            f"the key is not canonical: use UTF-8 and upper-case hex, and encode only what must be{_spelt(key)}"
        )
    return key


def _matches(pattern: re.Pattern[str], text: str, what: str) -> bool:
    """Raises Malformed if it is not text, which only a program can pass."""
    try:
        return pattern.fullmatch(text) is not None
    except TypeError:
        raise Malformed(f"expected {what} as text, got {type(text).__name__}") from None


def _spelt(key: str) -> str:
    """A suggestion for the spelling of the key; empty if there is none, or if it may be a family."""
    try:
        text = unquote(key, errors="strict")
    except UnicodeDecodeError:
        return ""
    if not 0 < len(text) <= MAX_KEY or "*" in text or not text.isprintable():
        return ""
    spelling = quote(text, safe=_KEY_SAFE)
    return f"; did you mean {spelling}?" if len(spelling) <= MAX_KEY else ""


def escape_key(text: str) -> str:
    """Any text as a key: `escape_key("Łódź")` is `%C5%81%C3%B3d%C5%BA`. Raises Malformed if that is too long."""
    try:
        return check_key(quote(text, safe=_KEY_SAFE))
    except UnicodeEncodeError:
        raise Malformed("expected a key of valid Unicode, got a text with a lone surrogate") from None


def check_id(request_id: str) -> str:
    if not _matches(_ID, request_id, "an id"):
        raise Malformed("expected an id of 1-128 characters A-Za-z0-9._:-")
    return request_id


def split_name(full_name: str) -> tuple[str, str | None]:
    """Splits `chat/42` into (`chat`, `42`) and `board` into (`board`, None). Raises Malformed."""
    name, slash, key = full_name.partition("/")
    return check_name(name), check_key(key) if slash else None
