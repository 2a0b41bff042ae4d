"""Text of others, made safe for a terminal, short, and of a known width.

Invariants: pure, and the only way from a server's response to a terminal. Characters that a terminal acts on or whose
width is unknown (control characters, changes of the writing direction, variation selectors) are shown as escapes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from rich.cells import cell_len, chop_cells

ELLIPSIS: Final = "…"
_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SELECTORS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_INVISIBLE_IN_JSON: Final = re.compile("[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def safe(text: str) -> str:
    """Returns `text` as one line that a terminal only prints: the only blank is a space, the rest is escaped."""
    if text.isprintable() and (text.isascii() or not _SELECTORS.search(text)):
        return text
    return "".join(character if _printable(character) else _escaped(character) for character in text)


def _printable(character: str) -> bool:
    """Variation selectors are not printable here, because terminals disagree about the width of the result."""
    return character.isprintable() and not _SELECTORS.match(character)


def _escaped(character: str) -> str:
    code = ord(character)
    short = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT_ESCAPES.get(character, short)


def quoted(text: str) -> str:
    """Returns `text` in quotes, with backslashes doubled, so that an escape is recognizable as one."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{safe(escaped)}"'


def name(key: str) -> str:
    """The name of a member, quoted only if it could be mistaken for something else."""
    return key if _NAME.fullmatch(key) else quoted(key)


def cells(text: str) -> int:
    """The number of columns that safe text takes."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, width: int) -> str:
    """Returns at most `width` columns of safe text; `…` replaces its end."""
    if cells(text) <= width:
        return text
    return _first(text, width - 1) + ELLIPSIS if width > 0 else ""


def _first(text: str, width: int) -> str:
    """As much of the beginning as fits."""
    text = text[:width]  # characters without a width could follow, but too little is better than too much
    if cells(text) <= width:
        return text
    return chop_cells(text, width)[0] if width > 1 else ""


def middle(text: str, width: int) -> str:
    """Returns a string in quotes, in at most `width` columns: of a long one the beginning, and the end, which grows."""
    if len(text) > 4 * width + 8:
        text = f"{text[: 2 * width]}{text[-2 * width - 4 :]}"  # the middle is not shown, so it is not escaped either
    whole = quoted(text)
    if cells(whole) <= width:
        return whole
    if width < 8:
        return cut(whole, width)
    tail = _first(whole[::-1], width // 2)[::-1]
    return _first(whole, width - 1 - cells(tail)) + ELLIPSIS + tail


def scalar(value: Any) -> str:
    """A number, true, false or null as JSON."""
    return orjson.dumps(value).decode()


def brief(value: Any, width: int) -> str:
    """Returns a value in at most `width` columns."""
    found: list[str] = []
    left = width
    for part in _parts(value, max(8, width // 2)):
        if cells(part) > left:
            return cut("".join(found) + part, width)
        found.append(part)
        left -= cells(part)
    return "".join(found)


def _parts(value: Any, width: int) -> Iterator[str]:
    """Lazily, so that the cost depends on the room, not on the size of the value. `width` is the limit of a string."""
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
    """Returns the same JSON, with escapes for characters that JSON allows in a string and a terminal would act on."""
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return _INVISIBLE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", encoded.decode()).encode()
