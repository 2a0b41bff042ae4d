"""The files that models and agents are given: those of people's newest messages, read from the blobs.

An image or a PDF becomes a `data:` URL, which every provider takes, and a text becomes text of the message. A file that
is not there, is too large, or is of another type keeps its URL, which no provider could open: turns then have its name.

Invariants: the messages are not changed; a message with such files is replaced by another one. What is read is bounded,
for each file and in all, and the newest files come first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from statestream.chat.file_keeper import FileKeeper
from statestream.chat.file_urls import data_url, file_of, is_data
from statestream.chat.messages import Message, Part
from statestream.chat.replies.turns import PDF
from statestream.core.errors import StatestreamError

log = logging.getLogger("statestream")

IMAGES: Final = frozenset(f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp"))
"""The types of images that providers accept."""
TEXTS: Final = frozenset({"text/plain", "text/csv", "text/markdown", "application/json"})
MAX_IMAGE: Final = 3_750_000
"""Bytes of an image: 5 MB in base64, the least that is known as the limit of a provider."""
MAX_PDF: Final = 10_000_000
MAX_TEXT: Final = 100_000
MAX_ALL: Final = 20_000_000
Filled = Mapping[str, Message]


async def with_files(keeper: FileKeeper, key: str, messages: Sequence[Message], window: int) -> Filled:
    """Those of the newest `window` messages that have files, with these files, by their ids."""
    room, found = MAX_ALL, dict[str, Message]()
    for message in reversed(messages[-window:]):
        if message["role"] == "user" and any(_is_stored(part) for part in message["parts"]):
            parts: list[Part] = []
            for part in message["parts"]:
                filled, size = await _filled(keeper, key, part, room)
                parts.append(filled)
                room -= size
            found[message["id"]] = {**message, "parts": parts}
    return found


def filled_in(messages: Sequence[Message], filled: Filled) -> list[Message]:
    """The messages, with the files of those that have some."""
    return [filled.get(message["id"], message) for message in messages]


def _is_stored(part: Part) -> bool:
    return part["type"] == "file" and (file_of(part["url"]) is not None or is_data(part["url"]))


async def _filled(keeper: FileKeeper, key: str, part: Part, room: int) -> tuple[Part, int]:
    """The part with the content of its file, and the bytes of that."""
    kind = str(part.get("mediaType", "")).partition(";")[0].strip().lower()
    most = min(room, _most(kind))
    if not _is_stored(part) or most <= 0 or (is_data(part["url"]) and kind not in TEXTS):
        return part, 0
    try:
        data = await keeper.whole(key, part, most)
    except (StatestreamError, ValueError) as error:
        log.info("a file is not sent to the model: %s", error)
        return part, 0
    if kind in TEXTS:
        return _text(part, data[:MAX_TEXT]), len(data)
    return {**part, "url": data_url(kind, data)}, len(data)


def _most(kind: str) -> int:
    if kind in IMAGES:
        return MAX_IMAGE
    return {PDF: MAX_PDF}.get(kind, MAX_ALL if kind in TEXTS else 0)


def _text(part: Part, data: bytes) -> dict[str, Any]:
    name = part.get("filename") or part["mediaType"]
    return {"type": "text", "text": f"\n\n[file: {name}]\n{data.decode(errors='replace')}\n"}
