"""Blobs in a folder: `<path>/<chat>/<file>`, where the name of the chat is encoded.

A blob is written under another name, flushed to disk and then renamed. After a crash, what was being written is left in
`<path>/.incoming`, where nobody reads it, and is removed a day later.

Invariants: names consist of letters and digits, and symbolic links below the path are not followed, so nothing outside
of the folder can be named. All that waits for the disk runs in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Final, TypeVar

from statestream.chat.blobs import BlobMissing, checked_id, folder_of
from statestream.core.errors import Unavailable

log = logging.getLogger("statestream")

T = TypeVar("T")

INCOMING: Final = ".incoming"
CHUNK: Final = 256 << 10
ABANDONED_SECONDS: Final = 24 * 3_600.0
NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FolderBlobs:
    """Stores files in a folder, and creates it with the first file. Each journal needs a folder of its own.

    Several processes can share the folder. Several machines need it on a file system that they share.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    async def open(self) -> None:
        await _in_thread(self._prepare)

    def _prepare(self) -> None:
        incoming = self.path / INCOMING
        for left in incoming.iterdir() if incoming.exists() else ():
            with contextlib.suppress(FileNotFoundError):  # another process has removed it
                if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    left.unlink()

    async def close(self) -> None:
        """Nothing to release."""

    async def put(self, chat: str, file: str, content: AsyncIterator[bytes]) -> None:
        place = self._place(chat, file)
        written = self.path / INCOMING / secrets.token_hex(16)
        out = await _in_thread(lambda: _create(written))
        try:
            async for piece in content:
                await _in_thread(lambda piece=piece: out.write(piece))  # type: ignore[misc]
            await _in_thread(lambda: _finish(out, written, place))
        except BaseException:
            with contextlib.suppress(OSError):
                out.close()
            with contextlib.suppress(OSError):
                written.unlink()
            raise

    @contextlib.asynccontextmanager
    async def read(
        self, chat: str, file: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        place = self._place(chat, file)
        opened = await _in_thread(lambda: _open(place, start))
        try:
            yield _pieces(opened, length)
        finally:
            opened.close()

    async def delete(self, chat: str, file: str) -> None:
        place = self._place(chat, file)
        await _in_thread(lambda: place.unlink(missing_ok=True))

    async def delete_chat(self, chat: str) -> None:
        folder = self.path / folder_of(chat)
        await _in_thread(lambda: _remove(folder))

    def _place(self, chat: str, file: str) -> Path:
        return self.path / folder_of(chat) / checked_id(file)


def _create(path: Path) -> IO[bytes]:
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags | NO_FOLLOW, 0o600))


def _finish(out: IO[bytes], written: Path, place: Path) -> None:
    """Makes what was written the blob at `place`, durably."""
    with out:
        out.flush()
        os.fsync(out.fileno())
    while True:
        with contextlib.suppress(FileNotFoundError):  # the chat is being deleted at the same time
            place.parent.mkdir(0o700, exist_ok=True)
            if place.parent.is_symlink():
                raise OSError(errno.ELOOP, "the folder of a chat is a symbolic link")
            written.replace(place)
            break
        if not written.exists():
            raise OSError(errno.ENOENT, "what was written is gone")
    with contextlib.suppress(FileNotFoundError):  # it was deleted with its chat
        _flush(place.parent)
    _flush(place.parent.parent)


def _flush(folder: Path) -> None:
    """Makes the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _open(place: Path, start: int) -> IO[bytes]:
    """Raises BlobMissing."""
    try:
        if place.parent.is_symlink():
            raise BlobMissing("there is no such file")
        opened = open(place, "rb", opener=lambda name, flags: os.open(name, flags | NO_FOLLOW))  # noqa: SIM115
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise BlobMissing("there is no such file") from None
        raise
    opened.seek(start)
    return opened


async def _pieces(opened: IO[bytes], length: int | None) -> AsyncIterator[bytes]:
    left = length
    while left is None or left > 0:
        wanted = CHUNK if left is None else min(CHUNK, left)
        piece = await _in_thread(lambda wanted=wanted: opened.read(wanted))  # type: ignore[misc]
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def _remove(folder: Path) -> None:
    """Removes the folder of a chat, also if another process is adding something to it."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    elif folder.exists():
        shutil.rmtree(folder, onerror=_unless_gone)


def _unless_gone(_: Callable[..., object], path: str, failure: tuple[type, BaseException, object]) -> None:
    """Another process may remove the same, or write into the folder: what it writes, it removes itself."""
    error = failure[1]
    if not (isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTEMPTY)):
        raise error


async def _in_thread(work: Callable[[], T]) -> T:
    """Raises Unavailable if the disk fails. The log has the reason, but no path."""
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        if error.errno in FULL:
            raise Unavailable("there is no room for more files; try again later") from None
        log.warning("the folder for files failed: %s", os.strerror(error.errno or 0))
        raise Unavailable("files are not available at the moment; try again later") from None
