"""What HTTP says around a file: which bytes are asked for, what the file is called, and what a browser may do with it.

Invariants: pure. Names and types were checked when the file was stored; here they are encoded all the same. A range
that cannot be read is ignored, as RFC 9110 says, and so are several at once: nobody gets more than the file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from statestream.core.errors import RangeNotSatisfiable

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.ASCII | re.IGNORECASE)
INLINE: Final = re.compile(r"(?:image/(?:png|jpeg|gif|webp|avif|bmp)|(?:audio|video)/[a-z0-9.+-]+)")
"""Types that pages show as pictures, audio and video. Everything else is saved."""
POLICY: Final = "sandbox; default-src 'none'"
"""For a browser that shows the file as a page: no scripts, no origin, no requests."""
_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 !#$&+.^_`|~()\[\]{}@=,-]")
_VALUE_SAFE: Final = "!#$&+-.^_`|~"
"""What RFC 8187 leaves as it is, beside letters and digits."""


def range_of(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the number of bytes that a `Range` asks for; None for all. Raises RangeNotSatisfiable."""
    found = None if header is None else _RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last, newest = found.groups()
    if newest is not None:
        start, end = max(0, size - int(newest)), size
        if int(newest) == 0:
            raise RangeNotSatisfiable(f"the file has {size} bytes")
    else:
        start, end = int(first), size if last == "" else min(size, int(last) + 1)
        if last != "" and int(last) < start:
            return None
    if start >= size:
        raise RangeNotSatisfiable(f"the file has {size} bytes")
    return start, end - start


def matches(headers: Sequence[str], tag: str) -> bool:
    """Whether `If-None-Match` names the tag, by the weak comparison of RFC 9110."""
    tags = {each.strip().removeprefix("W/") for header in headers for each in header.split(",")}
    return bool(tags & {tag, "*"})


def disposition(media_type: str, filename: str | None) -> str:
    """The `Content-Disposition`, as RFC 6266 says."""
    kind = "inline" if INLINE.fullmatch(media_type.partition(";")[0].strip().lower()) else "attachment"
    if filename is None:
        return kind
    plain = _NOT_PLAIN.sub("_", filename)
    if plain == filename:
        return f'{kind}; filename="{plain}"'
    encoded = quote(filename.encode(errors="replace"), safe=_VALUE_SAFE)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
