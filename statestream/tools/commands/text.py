"""Other people's text, made safe for a terminal, short, and of a known width.

Invariants: pure, and the only way from what a server said to a terminal. What cannot be printed (control characters,
what turns the direction of writing, what has no known width) is shown as an escape, never as itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from rich.cells import cell_len, chop_cells

MORE: Final = "…"
_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_UNSEEN_IN_JSON: Final = re.compile("[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def safe(text: str) -> str:
    """`text` in one line that a terminal only prints: a space is the only blank, escapes stand for the rest."""
    if text.isprintable() and (text.isascii() or not _SELECTORS.search(text)):
        return text
    return "".join(character if _printable(character) else _escaped(character) for character in text)


def _printable(character: str) -> bool:
    """Variation selectors count as not: terminals do not agree on the width that they make."""
    return character.isprintable() and not _SELECTORS.match(character)


def _escaped(character: str) -> str:
    code = ord(character)
    short = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT_ESCAPES.get(character, short)


def quoted(text: str) -> str:
    """As JSON would say it: what looks like an escape of ours is one."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{safe(escaped)}"'


def name(key: str) -> str:
    """The name of a member: as it is where nobody could take it for something else."""
    return key if _NAME.fullmatch(key) else quoted(key)


def cells(text: str) -> int:
    """How many columns it takes."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, width: int) -> str:
    """At most `width` columns of safe text; `…` stands for its end."""
    if cells(text) <= width:
        return text
    return _first(text, width - 1) + MORE if width > 0 else ""


def _first(text: str, width: int) -> str:
    """As much of its beginning as fits."""
    text = text[:width]  # a character may take no column, and is left out then: rather less than too much
    if cells(text) <= width:
        return text
    return chop_cells(text, width)[0] if width > 1 else ""


def middle(text: str, width: int) -> str:
    """A string's value, quoted, in at most `width` columns: of a long one its beginning and its end, where it grows."""
    if len(text) > 4 * width + 8:
        text = f"{text[: 2 * width]}{text[-2 * width - 4 :]}"  # the middle is not shown: it costs nothing
    whole = quoted(text)
    if cells(whole) <= width:
        return whole
    if width < 8:
        return cut(whole, width)
    tail = _first(whole[::-1], width // 2)[::-1]
    return _first(whole, width - 1 - cells(tail)) + MORE + tail


def scalar(value: Any) -> str:
    """A number, true, false, null, as JSON says them."""
    return orjson.dumps(value).decode()


def brief(value: Any, width: int) -> str:
    """A value in at most `width` columns."""
    found: list[str] = []
    left = width
    for part in _parts(value, max(8, width // 2)):
        if cells(part) > left:
            return cut("".join(found) + part, width)
        found.append(part)
        left -= cells(part)
    return "".join(found)


def _parts(value: Any, width: int) -> Iterator[str]:
    """Lazily: whoever has no room left stops, whatever the value's size. `width` is for strings in it."""
    if isinstance(value, str):
        yield middle(value, width)
    elif isinstance(value, Mapping):
        yield "{"
        for at, (key, item) in enumerate(value.items()):
            yield f"{', ' if at else ''}{name(key)}: "
            yield from _parts(item, width)
        yield "}"
    elif isinstance(value, Sequence):
        yield "["
        for at, item in enumerate(value):
            yield ", " if at else ""
            yield from _parts(item, width)
        yield "]"
    else:
        yield scalar(value)


def json_text(encoded: bytes) -> bytes:
    """The same JSON, with escapes for what JSON allows in a string as it is and a terminal would act on."""
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return _UNSEEN_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", encoded.decode()).encode()
