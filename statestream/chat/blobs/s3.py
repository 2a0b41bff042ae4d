"""Blobs in a bucket of S3, or of a compatible store: `<prefix>/<chat>/<file>`.

Through the obstore package, which streams in both directions and shows an object only once all of it has arrived. By
default, it finds the credentials and the region itself, as in AWS_ACCESS_KEY_ID and AWS_REGION.

Invariants: the bucket is private; people reach files only through the server. What an interrupted upload leaves is
invisible. A lifecycle rule of the bucket removes it (`AbortIncompleteMultipartUpload`).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from statestream.chat.blobs import BlobMissing, checked_id, folder_of
from statestream.core.errors import Unavailable

if TYPE_CHECKING:
    from obstore.store import S3Store

log = logging.getLogger("statestream")

PIECE: Final = 256 << 10
PART: Final = 5 << 20
"""Bytes of a part of an upload: S3 takes no smaller ones. An upload holds two of them."""
PATIENCE: Final = {"read_timeout": "30s", "timeout": "1h"}
"""A reply may last as long as the person takes who reads the file, but the store may not be silent."""
RETRIES: Final[Any] = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}
AT_ONCE: Final = 100
"""How many blobs are deleted by one request."""


class S3Blobs:
    """Stores files in an S3 bucket, below `prefix`. Each journal needs a prefix of its own.

    `endpoint` is the URL of a compatible store; without it, the bucket is at AWS. `key` and `secret` are the
    credentials, unless the environment has them. Raises ImportError without the extra `s3`.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str,
        endpoint: str | None = None,
        region: str | None = None,
        key: str | None = None,
        secret: str | None = None,
    ) -> None:
        if importlib.util.find_spec("obstore") is None:
            raise ImportError(
                "obstore is not installed; it comes with the extra s3: pip install '.[s3]' in the checkout",
                name="obstore",
            )
        if not prefix.strip("/"):
            raise ValueError("expected a `prefix`, such as chats: deleting a chat deletes everything below its prefix")
        given = {"endpoint": endpoint, "region": region, "access_key_id": key, "secret_access_key": secret}
        self._bucket, self._prefix = bucket, prefix.strip("/")
        self._settings = {name: value for name, value in given.items() if value is not None}
        self._made: S3Store | None = None

    async def open(self) -> None:
        from obstore.store import S3Store

        settings: Any = self._settings
        client: Any = {**PATIENCE, "allow_http": settings.get("endpoint", "").startswith("http://")}
        with _translated():
            self._made = S3Store(self._bucket, client_options=client, retry_config=RETRIES, **settings)

    async def close(self) -> None:
        self._made = None

    @property
    def _store(self) -> S3Store:
        if self._made is None:
            raise Unavailable("the server is stopping; try again in a moment")
        return self._made

    async def put(self, chat: str, file: str, content: AsyncIterator[bytes]) -> None:
        path = self._path(chat, file)
        try:
            with _translated():
                await self._store.put_async(path, content, chunk_size=PART, max_concurrency=2)
        except BlobMissing:
            log.warning("the S3 bucket for files does not exist")
            raise _unavailable() from None

    @contextlib.asynccontextmanager
    async def read(
        self, chat: str, file: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if length == 0:  # which is no range of S3
            yield _nothing()
            return
        options: Any = {} if start == 0 and length is None else {"range": _range(start, length)}
        with _translated():
            found = await self._store.get_async(self._path(chat, file), options=options)
        yield _pieces(found.stream(min_chunk_size=PIECE))

    async def delete(self, chat: str, file: str) -> None:
        with _translated(), contextlib.suppress(BlobMissing):
            await self._store.delete_async(self._path(chat, file))

    async def delete_chat(self, chat: str) -> None:
        with _translated():
            below = self._store.list(f"{self._prefix}/{folder_of(chat)}/", chunk_size=AT_ONCE)
            paths = [str(each["path"]) async for page in below for each in page]
            for begin in range(0, len(paths), AT_ONCE):
                await self._store.delete_async(paths[begin : begin + AT_ONCE])

    def _path(self, chat: str, file: str) -> str:
        return f"{self._prefix}/{folder_of(chat)}/{checked_id(file)}"


def _range(start: int, length: int | None) -> Any:
    return {"offset": start} if length is None else (start, start + length)


async def _nothing() -> AsyncIterator[bytes]:
    for piece in tuple[bytes, ...]():
        yield piece


async def _pieces(stream: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    """Pieces of at most PIECE bytes."""
    with _translated():
        async for whole in stream:
            view = memoryview(whole)
            for begin in range(0, len(view), PIECE):
                yield bytes(view[begin : begin + PIECE])


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raises BlobMissing, and Unavailable for whatever else the store says. Its details may contain keys."""
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise BlobMissing("there is no such file") from None
    except BaseError as error:
        log.warning("the S3 bucket for files failed: %s", type(error).__name__)
        raise _unavailable() from None


def _unavailable() -> Unavailable:
    return Unavailable("files are not available at the moment; try again later")
