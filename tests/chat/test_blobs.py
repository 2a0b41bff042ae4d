"""Blobs in a folder, and in a bucket of a real server that is compatible with S3."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from statestream.chat.blobs import BlobMissing, Blobs, folder_of
from statestream.chat.blobs.folder import FolderBlobs
from statestream.chat.blobs.s3 import S3Blobs
from statestream.core.errors import Unavailable
from tests.support import ROOT, Server, eventually
from tests.support.chats import new_chat

FILE, OTHER = "a" * 32, "b" * 32
KEYS = ("42", "..", ".", "A", "a", "%2F", "~" * 112)
"""Of chats. Some file systems take `A` and `a` for the same."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a store with the bucket `files`."""
    program = ROOT / "tests/node/node_modules/.bin/s3rver"
    options = ["-s", "-a", "127.0.0.1", "-p", "0", "-d", str(tmp_path_factory.mktemp("s3"))]
    command = [str(program), *options, "--configure-bucket", "files"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        line = next(line for line in process.stdout if "listening" in line)
        yield f"http://127.0.0.1:{line.rpartition(':')[2].strip()}"
        process.terminate()


@pytest.fixture(params=["folder", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    made: Blobs = (
        FolderBlobs(tmp_path / "files") if request.param == "folder" else bucket(request.getfixturevalue("s3"))
    )
    await made.open()
    yield made
    for key in KEYS:
        await made.delete_chat(key)
    await made.close()


def bucket(url: str, *, bucket: str = "files", prefix: str = "some/where", secret: str = "S3RVER") -> S3Blobs:
    return S3Blobs(bucket, prefix=prefix, endpoint=url, region="us-east-1", key="S3RVER", secret=secret)


async def pieces(*data: bytes, then: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
    if then is not None:
        raise then


async def content(blobs: Blobs, chat: str, file: str = FILE, **part: int) -> bytes:
    async with blobs.read(chat, file, **part) as found:  # type: ignore[arg-type]
        return b"".join([piece async for piece in found])


async def test_a_blob_is_there_as_it_was_stored(blobs: Blobs) -> None:
    data = [os.urandom(700_000) for _ in range(10)]  # more than a part of an upload
    await blobs.put("42", FILE, pieces(*data))
    await blobs.put("42", OTHER, pieces())
    assert await content(blobs, "42") == b"".join(data)
    assert await content(blobs, "42", OTHER) == b""
    whole = b"".join(data)
    for start, length in ((0, 2), (699_999, 2), (len(whole) - 1, 1), (300_000, 600_000), (5, 0)):
        assert await content(blobs, "42", start=start, length=length) == whole[start : start + length]
    assert await content(blobs, "42", start=len(whole) - 3) == whole[-3:]
    await blobs.put("42", FILE, pieces(*data))  # the same again
    assert await content(blobs, "42") == whole


async def test_what_fails_leaves_nothing(blobs: Blobs) -> None:
    large = [bytes(700_000) for _ in range(20)]
    for data in ((), (b"half",), large):
        with pytest.raises((ValueError, Unavailable)):
            await blobs.put("42", FILE, pieces(*data, then=ValueError("cut")))
        with pytest.raises(BlobMissing):
            await content(blobs, "42")


async def test_chats_have_nothing_in_common(blobs: Blobs) -> None:
    for key in KEYS:
        await blobs.put(key, FILE, pieces(key.encode()))
    assert [await content(blobs, key) for key in KEYS] == [key.encode() for key in KEYS]
    await blobs.delete("A", FILE)
    await blobs.delete("A", FILE)
    await blobs.delete_chat("..")
    await blobs.delete_chat("nobody-knows")
    for key in KEYS:
        if key in ("A", ".."):
            with pytest.raises(BlobMissing):
                await content(blobs, key)
        else:
            assert await content(blobs, key) == key.encode()


@pytest.mark.parametrize(
    "file", ["", "..", "../" + "a" * 29, "/etc/passwd", "a" * 31, "A" * 32, f"{FILE}\n", "ａ" * 32]
)
async def test_nothing_else_can_be_named(blobs: Blobs, file: str) -> None:
    with pytest.raises(BlobMissing):
        await blobs.put("42", file, pieces(b"x"))
    with pytest.raises(BlobMissing):
        await content(blobs, "42", file)


def test_the_folder_of_a_chat_is_one_name() -> None:
    folders = [folder_of(key) for key in KEYS]
    assert len({folder.lower() for folder in folders}) == len(KEYS)
    assert all(folder.isalnum() and len(folder) <= 180 for folder in folders)


async def test_a_chat_is_deleted_while_it_gets_files(tmp_path: Path) -> None:
    """What was stored is there or not, and nobody fails."""
    blobs = FolderBlobs(tmp_path)

    async def store() -> None:
        for number in range(100):
            await blobs.put("42", f"{number:032x}", pieces(b"x"))

    storing = asyncio.create_task(store())
    while not storing.done():
        await blobs.delete_chat("42")
    await storing


async def test_a_bucket_that_does_not_work_says_nothing_of_itself(s3: str, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for wrong in (bucket(s3, bucket="canary-bucket"), bucket(nobody, secret="canary-secret")):
        await wrong.open()
        with pytest.raises(Unavailable) as error:
            await wrong.put("42", FILE, pieces(b"x"))
        assert "canary" not in f"{error.value} {caplog.text}"
    with pytest.raises(ValueError, match="expected a `prefix`"):
        S3Blobs("files", prefix="/")


async def test_nodes_that_share_a_bucket_share_files(s3: str, tmp_path: Path) -> None:
    env = {"FILED_JOURNAL": f"sqlite:///{tmp_path / 'journal.db'}", "FILED_S3": s3}
    app = f"{ROOT / 'tests/apps/filed.py'}:app"
    with Server("serve", app, env=env) as one, Server("serve", app, env=env) as other:
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer ann"}) as http:
            chat = await new_chat(http, one)
            data, headers = os.urandom(300_000), {"Content-Type": "image/png"}
            async with http.post(f"{one.url}/api/chats/{chat}/files", data=data, headers=headers) as response:
                assert response.status == 201
                url = (await response.json())["url"]
            async with http.get(f"{other.url}{url}") as response:
                assert (response.status, await response.read()) == (200, data)
            async with http.get(f"{other.url}{url}", headers={"Range": "bytes=10-19"}) as response:
                assert (response.status, await response.read()) == (206, data[10:20])
            async with http.post(f"{one.url}/api/chats/{chat}/files", data=bytes(450_000), headers=headers) as response:
                assert (response.status, (await response.json())["code"]) == (413, "too_large")
            async with http.delete(f"{other.url}/api/chats/{chat}") as response:
                assert response.status == 200
            blobs = bucket(s3, prefix="chats")
            await blobs.open()
            with pytest.raises(BlobMissing):
                await content(blobs, chat, url.rpartition("/")[2])
            await eventually(lambda: not list(tmp_path.glob("*.files")))
