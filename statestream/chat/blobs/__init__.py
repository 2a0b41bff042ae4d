"""Where the bytes of files are: a folder, or a bucket of S3. The state has their names, and nothing else of them.

    folder     FolderBlobs: a folder of this machine, or one that several machines share
    s3         S3Blobs: a bucket of S3, or of a compatible store
    default    which blobs a chat has that names none

Invariants: a blob is named by its chat and a file id, and never changes. It is there as a whole or not at all, whatever
happens while it is written. Nothing here decides who may read it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from statestream.core.errors import NotFound

FILE_ID: Final = "[0-9a-f]{32}"
"""The pattern of the ids of files."""
_ID: Final = re.compile(FILE_ID, re.ASCII)


class BlobMissing(NotFound):
    """There is no such blob: it was deleted, or the store belongs to another journal."""


class Blobs(Protocol):
    """The interface of a store of blobs. Methods raise Unavailable if the store fails or is full."""

    async def open(self) -> None:
        """The server calls this once, before all other methods. Raises Unavailable."""

    async def close(self) -> None:
        """Releases all resources."""

    async def put(self, chat: str, file: str, content: AsyncIterator[bytes]) -> None:
        """Stores a blob completely and durably. If `content` raises, stores nothing. Replaces an equal blob."""

    def read(
        self, chat: str, file: str, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes from `start` on, in pieces. Raises BlobMissing when it is entered."""

    async def delete(self, chat: str, file: str) -> None:
        """Deletes a blob if it exists."""

    async def delete_chat(self, chat: str) -> None:
        """Deletes all blobs of a chat."""


def folder_of(chat: str) -> str:
    """The name of a chat's folder: its key in lower-case base32.

    Other spellings would not do: a key may be `..`, and some file systems take `a` and `A` for the same.
    """
    return base64.b32encode(chat.encode()).decode().rstrip("=").lower()


def is_id(file: str) -> bool:
    """Whether that is the id of a file: 32 hexadecimal digits."""
    return _ID.fullmatch(file) is not None


def checked_id(file: str) -> str:
    """Raises BlobMissing for an id that no file has, so that it cannot name anything else."""
    if not is_id(file):
        raise BlobMissing("there is no such file")
    return file
