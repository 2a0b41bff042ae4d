"""Takes files in, gives them out, and deletes them: what the state has of a file, and its bytes, kept together.

A file is noted in `chat_uploads` before its bytes are written, and moves to `chat_files` with the message that has it.
So whatever a crash interrupts, the state names every blob that there is, and no message names one that is not there.

Invariants: the journal never has the bytes. No right is checked here. What is written is limited while it arrives, by
its file, and before, by its chat.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from statestream.chat.blobs import BlobMissing, Blobs
from statestream.chat.file_urls import ID, MARK, content_mark, data_of, file_of, is_data, url_of
from statestream.chat.files import REFUSED, Files
from statestream.chat.replies.quota import Quota
from statestream.chat.slices import erasures, kept_files, uploads
from statestream.chat.slices.conversation import optional
from statestream.chat.slices.uploads import FileEntry
from statestream.core.change import Action, now_ms
from statestream.core.errors import Refused, StatestreamError, TooLarge, VersionConflict
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

FORM_SIZE: Final = 80 << 10
"""What a form may have beside the file."""
UNUSED_MS: Final = 24 * 3_600 * 1_000
"""How long a file stays that no message has."""
NO_BLOBS: Final = (
    "files cannot be stored: the journal is not on this machine alone. Say where they belong, with "
    'Chat(blobs=FolderBlobs("/srv/files")), a folder that all machines share, or Chat(blobs=S3Blobs(…))'
)

Part = dict[str, Any]


class FileKeeper:
    """The files of the chats of one store. Call `open` first and `close` at the end.

    `find_blobs` says where the bytes are, once the store is open. `shielded` lets work go on if a request ends.
    """

    def __init__(
        self,
        view: StoreView,
        files: Files,
        find_blobs: Callable[[], Blobs | None],
        quota: Quota,
        shielded: Callable[[Coroutine[Any, Any, None]], Awaitable[None]],
    ) -> None:
        self._view, self._files, self._find_blobs, self._quota = view, files, find_blobs, quota
        self._shielded = shielded
        self._blobs: Blobs | None = None
        self._warned = False

    async def open(self) -> None:
        """Raises Unavailable."""
        self._blobs = self._find_blobs()
        if self._blobs is not None:
            await self._blobs.open()

    async def close(self) -> None:
        if self._blobs is not None:
            await self._blobs.close()

    def _usable(self) -> Blobs:
        """Raises Refused."""
        if self._blobs is None:
            if not self._warned:
                self._warned = True
                log.warning(NO_BLOBS)
            raise Refused(REFUSED, "This server cannot store files.")
        return self._blobs

    # in

    async def upload(
        self,
        key: str,
        content: AsyncIterator[bytes],
        *,
        media_type: str,
        filename: str | None = None,
        size: int | None = None,
        person: str | None = None,
    ) -> Part:
        """Stores a file that no message has yet, and returns its part, with its size. `size`: the most that it can be.

        Raises Refused, TooLarge, RateLimited, Unavailable, and what `content` raises.
        """
        self._usable()
        self._files.check_new(media_type, filename)
        self._quota.check_uploads(person)
        entry: FileEntry = {"mediaType": media_type, "size": self._most(size), **optional(filename=filename)}  # type: ignore[typeddict-item]
        file = secrets.token_hex(ID // 2)
        stored = await self._store(key, file, entry, content)
        self._quota.uploaded(person, stored)
        name = optional(filename=filename)
        return {"type": "file", "mediaType": media_type, "url": url_of(key, file), **name, "size": stored}

    async def upload_for_reply(
        self, key: str, content: AsyncIterator[bytes], *, media_type: str, filename: str | None, size: int | None
    ) -> tuple[Part, list[Action]]:
        """Stores a file of an agent. Returns its part, and the actions that belong to it. Raises as `upload` does."""
        part = await self.upload(key, content, media_type=media_type, filename=filename, size=size)
        del part["size"]
        return part, await self._view.complete(lambda: self.keeping(key, [part]))

    def _most(self, size: int | None) -> int:
        """The bytes to reserve. Raises TooLarge."""
        if size is not None and size > self._files.upload_size + FORM_SIZE:
            raise self._too_large()
        return self._files.upload_size if size is None else min(size, self._files.upload_size)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a file can have at most {self._files.upload_size} bytes").over("body")

    async def _store(self, key: str, file: str, entry: FileEntry, content: AsyncIterator[bytes]) -> int:
        """Notes a file and writes its bytes. Returns their number."""
        blobs, view = self._usable(), self._view
        kept = await view.complete(lambda: kept_files.kept_in(view, key))
        room = max(0, self._files.chat_size - uploads.total(kept.values()))
        try:
            begun = uploads.begun(key, file=file, entry=entry, room=room)
            await view.dispatch(begun, expect=erasures.undeleted(key))
        except VersionConflict:
            raise Refused(uploads.GONE, uploads.DELETED) from None
        counted = _Counted(content, self._files.upload_size, self._too_large)
        try:
            await blobs.put(key, file, counted)
            await view.dispatch(uploads.stored(key, file=file, size=counted.size))
        except BaseException:
            with contextlib.suppress(StatestreamError):  # otherwise it stays for a day
                await self._shielded(self._drop(key, [file]))
            if counted.failure is not None:  # which the blobs may have called something else
                raise counted.failure from None
            raise
        return counted.size

    async def take_in(self, key: str, parts: Sequence[Part], person: str | None) -> list[Part]:
        """The parts of a question, with each file that they contain as one of the chat.

        `data:` URLs become files. URLs of the server must be those of files of this chat. `person` is whose files they
        are. Raises Refused, RateLimited, Unavailable.
        """
        self._files.check(parts)
        made: list[Part] = []
        for part in parts:
            found = await self._file_in(key, part, person)
            if found is None:
                made.append(part)
                continue
            file, entry = found
            name = part.get("filename", entry.get("filename"))
            url = url_of(key, file)
            made.append({"type": "file", "mediaType": entry["mediaType"], "url": url, **optional(filename=name)})
        return made

    async def _file_in(self, key: str, part: Part, person: str | None) -> tuple[str, FileEntry] | None:
        """The file that a part of a question names or contains."""
        if part["type"] != "file":
            return None
        if is_data(part["url"]):
            return await self._from_data(key, part, person)
        own = file_of(part["url"])
        if own is None:
            return None
        entry = await self.find(key, own[1]) if own[0] == key else None
        if entry is None:
            raise Refused(REFUSED, "There is no such file in this chat. Upload it again.")
        return own[1], entry

    async def _from_data(self, key: str, part: Part, person: str | None) -> tuple[str, FileEntry]:
        self._usable()
        try:
            data = data_of(part["url"])
        except ValueError:
            raise Refused(REFUSED, "A file in a `data:` URL must be encoded in base64.") from None
        mark = content_mark(part["mediaType"], data)
        if (known := await self._equal(key, mark)) is not None:
            return known
        file = mark + secrets.token_hex((ID - MARK) // 2)
        name = optional(filename=part.get("filename"))
        entry: FileEntry = {"mediaType": part["mediaType"], "size": len(data), **name}  # type: ignore[typeddict-item]
        self._quota.check_uploads(person)
        await self._store(key, file, entry, _one(data))
        self._quota.uploaded(person, len(data))
        return file, entry

    async def _equal(self, key: str, mark: str) -> tuple[str, FileEntry] | None:
        """A file of the chat whose id begins with that mark of its content."""
        view = self._view
        kept = await view.complete(lambda: kept_files.kept_in(view, key))
        waiting = await view.complete(lambda: uploads.waiting_in(view, key))
        there = (file for file, entry in waiting.items() if "stored" in entry and "leaving" not in entry)
        file = next((file for file in (*kept, *there) if file.startswith(mark)), None)
        return None if file is None else (file, _described(kept.get(file) or waiting[file]))

    def keeping(self, key: str, parts: Sequence[Mapping[str, Any]]) -> list[Action]:
        """The actions that belong to a message with these parts. Raises NotLoaded."""
        kept, waiting = kept_files.kept_in(self._view, key), uploads.waiting_in(self._view, key)
        named = (file_of(part["url"]) for part in parts if part["type"] == "file")
        files = {own[1]: None for own in named if own is not None}
        taken = [file for file in files if file in waiting or file not in kept]  # refused if it is not there
        new = {file: _described(waiting[file]) for file in taken if file in waiting and file not in kept}
        took = [uploads.taken(key, files=taken)] if taken else []
        return [*took, *([kept_files.kept(key, files=new)] if new else [])]

    # out

    async def find(self, key: str, file: str) -> FileEntry | None:
        """What is known of a file, if it is stored. Another node may have stored it just now."""
        found = await self._find(key, file)
        if found is None:
            await self._view.caught_up()
            found = await self._find(key, file)
        return found

    async def _find(self, key: str, file: str) -> FileEntry | None:
        view = self._view
        kept = await view.complete(lambda: kept_files.kept_in(view, key))
        waiting = await view.complete(lambda: uploads.waiting_in(view, key))
        if (entry := kept.get(file)) is None:
            entry = waiting.get(file)
            if entry is None or "stored" not in entry or "leaving" in entry:
                return None
        return _described(entry)

    def read(
        self, key: str, file: str, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Bytes of a file. Raises BlobMissing when it is entered, and Unavailable."""
        if self._blobs is None:
            raise BlobMissing("there is no such file")
        return self._blobs.read(key, file, start=start, length=length)

    async def whole(self, key: str, part: Mapping[str, Any], most: int) -> bytes:
        """The bytes of a file of a message. Raises NotFound, TooLarge, ValueError if it is elsewhere, Unavailable."""
        if is_data(part["url"]):
            return data_of(part["url"])
        own = file_of(part["url"])
        if own is None:
            raise ValueError("expected a file of this chat; fetch what is at another address yourself")
        entry = await self.find(key, own[1]) if own[0] == key else None
        if entry is None:
            raise BlobMissing("there is no such file in this chat")
        if entry["size"] > most:
            raise TooLarge(f"the file has {entry['size']} bytes, more than {most}")
        async with self.read(key, own[1]) as pieces:
            return b"".join([piece async for piece in pieces])

    # away

    async def delete_chat(self, key: str) -> None:
        """Deletes the bytes of all files of a chat that was deleted. Raises Unavailable."""
        if self._blobs is not None:
            await self._blobs.delete_chat(key)

    async def sweep(self) -> None:
        """Deletes files that no message has had for a day. Raises Unavailable."""
        view, before = self._view, now_ms() - UNUSED_MS
        for key in uploads.chats(view):
            files = await view.complete(lambda key=key: uploads.waiting_in(view, key))  # type: ignore[misc]
            if old := uploads.older_than(files, before):
                await self._drop(key, old)

    async def _drop(self, key: str, files: Sequence[str]) -> None:
        """Deletes files, unless a message has them."""
        view = self._view
        await view.dispatch(uploads.leaving(key, files=list(files)))
        marked = await view.complete(lambda: uploads.waiting_in(view, key))
        kept = await view.complete(lambda: kept_files.kept_in(view, key))
        gone = await view.complete(lambda: view.version(uploads.name_of(key)) == 0)
        if self._blobs is not None:
            for file in files:
                if file not in kept and (gone or "leaving" in marked.get(file, ())):
                    await self._blobs.delete(key, file)
        await view.dispatch(uploads.left(key, files=list(files)))


def _described(entry: Mapping[str, Any]) -> FileEntry:
    found: FileEntry = {"mediaType": entry["mediaType"], "size": entry["size"]}
    if "filename" in entry:
        found["filename"] = entry["filename"]
    return found


class _Counted:
    """Content that ends with an error if it is too large."""

    def __init__(self, content: AsyncIterator[bytes], most: int, error: Callable[[], TooLarge]) -> None:
        self._content, self._most, self._error = content, most, error
        self.size = 0
        self.failure: Exception | None = None
        """Why the content has ended early."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._content)
            self.size += len(piece)
            if self.size > self._most:
                raise self._error()
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise
        return piece


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data
