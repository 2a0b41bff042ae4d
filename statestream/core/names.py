"""How slices, keys and requests may be called, and that each has one spelling.

Invariants: everything that names something from outside passes here. Names hold nothing that would have to
be escaped in JSON, in an SSE field, or in a URL's path beyond their percent signs.
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
        raise Malformed("expected a slice name of a-z, 0-9 and _, starting with a letter, at most 64 characters")
    return name


def check_key(key: str) -> str:
    """The key itself, if it is in the one allowed spelling; see `escape_key`."""
    if not 0 < len(key) <= 128 or not _KEY.fullmatch(key):
        raise Malformed("expected a key of 1-128 characters A-Za-z0-9._~:@- with anything else percent-encoded")
    try:
        text = unquote(key, errors="strict")
    except UnicodeDecodeError:
        text = ""
    if quote(text, safe=_KEY_SAFE) != key:
        raise Malformed("expected the key in its one spelling: UTF-8, upper-case hex, nothing encoded that need not be")
    return key


def escape_key(text: str) -> str:
    """Any text as a key: `escape_key("Łódź")` is `%C5%81%C3%B3d%C5%BA`. Raises Malformed if it gets too long."""
    return check_key(quote(text, safe=_KEY_SAFE))


def check_id(request_id: str) -> str:
    if not _ID.fullmatch(request_id):
        raise Malformed("expected an id of 1-128 characters A-Za-z0-9._:-")
    return request_id


def split_name(full_name: str) -> tuple[str, str | None]:
    """`chat/42` as (`chat`, `42`), `board` as (`board`, None). Raises Malformed."""
    name, slash, key = full_name.partition("/")
    return check_name(name), check_key(key) if slash else None
