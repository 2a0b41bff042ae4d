"""The names of slices, keys and requests, each of which has exactly one spelling.

Invariants: every name from outside is checked here. Names contain nothing that must be escaped in JSON, in an SSE field
or, apart from percent signs, in the path of a URL.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from statestream.core.errors import Malformed

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_KEY = re.compile(r"(?:[A-Za-z0-9._~:@-]|%[0-9A-F]{2})+", re.ASCII)
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_KEY_SAFE: Final = ":@"  # beside what `quote` never escapes: letters, digits, _ . - ~


def check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Malformed(
            "expected a slice name of a-z, 0-9 and _ that starts with a letter and has at most 64 characters"
        )
    return name


def check_key(key: str) -> str:
    """The key itself, if it has the one spelling that `escape_key` gives it. Raises Malformed."""
    if not 0 < len(key) <= 128 or not _KEY.fullmatch(key):
        raise Malformed("expected a key of 1-128 characters A-Za-z0-9._~:@-, with everything else percent-encoded")
    try:
        text = unquote(key, errors="strict")
    except UnicodeDecodeError:
        text = ""
    if quote(text, safe=_KEY_SAFE) != key:
        raise Malformed("the key is not canonical: use UTF-8 and upper-case hex, and encode only what must be")
    return key


def escape_key(text: str) -> str:
    """Any text as a key: `escape_key("Łódź")` is `%C5%81%C3%B3d%C5%BA`. Raises Malformed if that is too long."""
    return check_key(quote(text, safe=_KEY_SAFE))


def check_id(request_id: str) -> str:
    if not _ID.fullmatch(request_id):
        raise Malformed("expected an id of 1-128 characters A-Za-z0-9._:-")
    return request_id


def split_name(full_name: str) -> tuple[str, str | None]:
    """Splits `chat/42` into (`chat`, `42`) and `board` into (`board`, None). Raises Malformed."""
    name, slash, key = full_name.partition("/")
    return check_name(name), check_key(key) if slash else None
