"""The URLs of files: those of the server's own route, and `data:` URLs, which contain the file.

    /api/chats/<chat>/files/<file>

The URL in a message is a path: pages of the server's origin show it as it is, under whatever host name they know the
server.

Invariants: pure. The id of a file from a `data:` URL begins with a mark of its content, so a message that is posted
again is recognized. The rest is random: no id is ever used again after its file was deleted. Ids say nothing about
other chats.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from statestream.chat.blobs import FILE_ID
from statestream.core.values import canonical

ROUTE: Final = "/api/chats/{id}/files/{file}"
ID: Final = 32
"""The hexadecimal digits of an id."""
MARK: Final = 20
"""Those of a mark, with which it may begin."""
_URL: Final = re.compile(rf"/api/chats/((?:[A-Za-z0-9._~:@-]|%[0-9A-F]{{2}})+)/files/({FILE_ID})", re.ASCII)


def url_of(key: str, file: str) -> str:
    """The URL of a file of a chat."""
    return f"/api/chats/{key}/files/{file}"


def file_of(url: str) -> tuple[str, str] | None:
    """The chat and the id in the URL of a file; None if it is another URL."""
    found = _URL.fullmatch(url)
    return None if found is None else (found[1], found[2])


def is_data(url: str) -> bool:
    return url.startswith("data:")


def data_of(url: str) -> bytes:
    """The bytes in a `data:` URL in base64. Raises ValueError."""
    head, _, data = url.partition(",")
    if not head.lower().endswith(";base64"):
        raise ValueError("expected a `data:` URL in base64")
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except binascii.Error:
        raise ValueError("expected valid base64 in a `data:` URL") from None


def data_url(media_type: str, data: bytes) -> str:
    """The `data:` URL of a file."""
    return f"data:{media_type.partition(';')[0].strip()};base64,{base64.b64encode(data).decode()}"


def content_mark(media_type: str, data: bytes) -> str:
    """With what the ids of files with that content begin."""
    return hashlib.sha256(media_type.lower().encode() + b"\n" + data).hexdigest()[:MARK]


def same_parts(stored: Sequence[Mapping[str, Any]], posted: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a person posted what is stored: with `data:` URLs where the chat has those of the server, or the same."""
    if len(stored) != len(posted):
        return False
    return all(_same(mine, theirs) for mine, theirs in zip(stored, posted, strict=True))


def _same(stored: Mapping[str, Any], posted: Mapping[str, Any]) -> bool:
    if canonical(dict(stored)) == canonical(dict(posted)):
        return True
    if stored["type"] != "file" or posted["type"] != "file" or (own := file_of(stored["url"])) is None:
        return False
    if not is_data(posted["url"]):
        return bool(posted["url"] == stored["url"])
    try:
        return own[1].startswith(content_mark(posted["mediaType"], data_of(posted["url"])))
    except ValueError:
        return False
