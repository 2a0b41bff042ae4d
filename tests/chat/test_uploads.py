"""Files through the routes: uploads, what becomes of them, and who may read them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.apps.filed import LIMIT
from tests.support import ROOT, Server, eventually
from tests.support.chats import ended, invite, new_chat, read_chat
from tests.support.moved_clock import move
from tests.support.pages import fences_of, terminals_of
from tests.support.small_disk import AVAILABLE, SmallDisk

APP = f"{ROOT / 'tests/apps/filed.py'}:app"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100
Http = aiohttp.ClientSession
People = dict[str, Http]


def filed(**env: str) -> Server:
    return Server("serve", APP, env=env)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Tests share it, so that each has chats of its own."""
    with filed(FILED_JOURNAL=f"sqlite:///{tmp_path_factory.mktemp('files') / 'journal.db'}") as running:
        running.folder = Path(running.env["FILED_JOURNAL"].removeprefix("sqlite:///") + ".files")  # type: ignore[attr-defined]
        yield running


def person(name: str) -> Http:
    connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {name}"})


@pytest.fixture
async def people() -> AsyncIterator[People]:
    async with person("ann") as ann, person("bob") as bob, person("eve") as eve:
        yield {"ann": ann, "bob": bob, "eve": eve}


async def upload(
    http: Http, server: Server, chat: str, data: Any = PNG, media_type: str = "image/png", query: str = "", **more: Any
) -> tuple[int, Any]:
    headers = {"Content-Type": media_type, **more}
    async with http.post(f"{server.url}/api/chats/{chat}/files{query}", data=data, headers=headers) as response:
        return response.status, await response.json()


async def stored(http: Http, server: Server, chat: str, data: bytes = PNG, **more: Any) -> Any:
    """The part of a file that was uploaded."""
    status, part = await upload(http, server, chat, data, **more)
    assert status == 201, part
    assert part.pop("size") == len(data)
    return part


async def get(http: Http, server: Server, url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with http.get(f"{server.url}{url}", headers=headers) as response:
        return response.status, dict(response.headers), await response.read()


async def ask(http: Http, server: Server, chat: str, *parts: Any, id: str = "q", **more: Any) -> tuple[int, str]:
    body = {"id": chat, "messages": [{"id": id, "role": "user", "parts": list(parts)}], **more}
    async with http.post(f"{server.url}/api/chat", json=body) as response:
        return response.status, await response.text()


def data_part(data: bytes, **more: Any) -> Any:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    return {"type": "file", "mediaType": "image/png", "url": url, **more}


def blobs(server: Server) -> list[Path]:
    return [path for path in server.folder.rglob("*") if path.is_file()]  # type: ignore[attr-defined]


# upload, ask, read


async def test_a_file_is_uploaded_asked_about_and_read(server: Server, people: People) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    part = await stored(ann, server, chat, query="?filename=Bild%20%C3%BC.png")
    assert part == {"type": "file", "mediaType": "image/png", "url": part["url"], "filename": "Bild ü.png"}
    assert part["url"].startswith(f"/api/chats/{chat}/files/")
    status, text = await ask(ann, server, chat, {"type": "text", "text": "See"}, part)
    assert (status, f" {len(PNG)}" in text, "[1]" in text) == (200, True, True)
    message = (await read_chat(ann, server, chat))["messages"][0]
    assert message["parts"][1] == part
    status, headers, body = await get(ann, server, part["url"])
    assert (status, body) == (200, PNG)
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Disposition"] == "inline; filename=\"Bild _.png\"; filename*=UTF-8''Bild%20%C3%BC.png"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "private, no-cache"
    assert "statestream" not in headers.get("Server", "")


async def test_forms_of_pages_and_of_curl_are_read(server: Server, people: People, tmp_path: Path) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    file = tmp_path / "weather of \u00fc.csv"
    file.write_bytes(b"a,b\r\n--x\r\n" * 40_000)
    url = f"{server.url}/api/chats/{chat}/files"
    command = [
        "curl",
        "-s",
        "-H",
        "Authorization: Bearer ann",
        "-F",
        "note=hello",
        "-F",
        f"file=@{file};type=text/csv",
        url,
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    part = json.loads(out)
    assert (part["filename"], part["mediaType"], part["size"]) == (file.name, "text/csv", file.stat().st_size)
    assert (await get(ann, server, part["url"]))[2] == file.read_bytes()
    for wrong in ({"note": "hello"}, {}):
        form = aiohttp.FormData(wrong, default_to_multipart=True)
        async with ann.post(url, data=form) as response:
            assert response.status == 400


async def test_a_question_with_data_urls_has_files_and_is_asked_once(server: Server, people: People) -> None:
    """The page that has sent it posts it again with the same `data:` URL, whatever the chat has."""
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    before = len(blobs(server))
    part = data_part(PNG + b"once", filename="x.png")
    for number in range(2):
        status, _ = await ask(ann, server, chat, part, {"type": "text", "text": "What?"})
        assert status == 200
        await ended(ann, server, chat)
        assert len((await read_chat(ann, server, chat))["messages"]) == 2, number
    assert len(blobs(server)) == before + 1
    [question, reply] = (await read_chat(ann, server, chat))["messages"]
    assert question["parts"][0] == {**part, "url": question["parts"][0]["url"]}
    assert (await get(ann, server, question["parts"][0]["url"]))[2] == PNG + b"once"
    again = {"trigger": "regenerate-message", "messageId": reply["id"]}
    status, text = await ask(ann, server, chat, part, {"type": "text", "text": "What?"}, **again)
    assert status == 200, text
    await ended(ann, server, chat)
    parents = [message.get("parent") for message in (await read_chat(ann, server, chat))["messages"]]
    assert parents == [None, "q", "q"]
    journal = Path(server.env["FILED_JOURNAL"].removeprefix("sqlite:///"))
    for path in journal.parent.glob(f"{journal.name}*"):
        assert path.is_dir() or base64.b64encode(PNG + b"once")[:200] not in path.read_bytes()


async def test_equal_files_that_are_posted_at_the_same_time_are_not_in_each_others_way(
    server: Server, people: People
) -> None:
    """Also if one of them is given up, and its bytes are deleted."""
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    part, text = data_part(PNG + b"at once"), {"type": "text", "text": "What?"}
    answers = await asyncio.gather(*(ask(ann, server, chat, part, text, id=f"q{number}") for number in range(6)))
    refused = [told for status, told in answers if status != 200]
    assert all("in progress" in told for told in refused), refused
    await ended(ann, server, chat)
    messages = (await read_chat(ann, server, chat))["messages"]
    assert len(messages) == 2 * (6 - len(refused))
    urls = {message["parts"][0]["url"] for message in messages if message["role"] == "user"}
    assert {(await get(ann, server, url))[2] for url in urls} == {PNG + b"at once"}
    status, _ = await ask(ann, server, chat, part, text, id="again")
    assert status == 200
    assert (await read_chat(ann, server, chat))["messages"][-2]["parts"][0]["url"] in urls


async def test_an_agent_sends_files_that_everybody_reads(server: Server, people: People) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    status, text = await ask(ann, server, chat, {"type": "text", "text": "Paint"}, agent="painter")
    assert status == 200
    reply = await ended(ann, server, chat)
    [here, table, program, done] = reply["parts"]
    assert (here["text"], done["text"]) == ("Here:", "Done.")
    assert table == {"type": "file", "mediaType": "text/csv", "url": table["url"], "filename": 'größe "1".csv'}
    status, headers, body = await get(ann, server, table["url"])
    assert (status, body) == (200, b"day,celsius\n1,20\n")
    assert headers["Content-Disposition"].startswith('attachment; filename="gr__e _1_.csv"; filename*=')
    assert (await get(ann, server, program["url"]))[2] == (ROOT / "tests/apps/filed.py").read_bytes()
    chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line.startswith("data: {")]
    named = {"statestream": {"filename": table["filename"]}}
    files = [chunk for chunk in chunks if chunk["type"] == "file"]
    assert files[0] == {"type": "file", "mediaType": "text/csv", "url": table["url"], "providerMetadata": named}
    body = {"threadId": chat, "runId": "r", "messages": []}
    async with ann.post(f"{server.url}/ag-ui", json=body) as response:
        shown = await response.text()
    activity = {"url": table["url"], "mediaType": "text/csv", "filename": table["filename"]}
    assert '"activityType":"file"' in shown
    assert all(json.dumps(value, ensure_ascii=False) in shown for value in activity.values())


@pytest.mark.parametrize("what", ["html", "large"])
async def test_what_the_chat_does_not_accept_ends_the_reply_of_an_agent(
    server: Server, people: People, what: str
) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    await ask(ann, server, chat, {"type": "text", "text": what}, agent="careless")
    reply = await ended(ann, server, chat)
    assert (reply["status"], reply["error"]["kind"]) == ("error", "file_refused" if what == "html" else "too_large")
    assert [part["text"] for part in reply["parts"]] == ["So:"]


async def test_the_page_about_files_uploads_one(server: Server, people: People, tmp_path: Path) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    (tmp_path / "plan.pdf").write_bytes(b"%PDF-1.7")
    [[command]] = terminals_of("files.md")
    command = command.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}").replace("/42/", f"/{chat}/")
    process = await asyncio.create_subprocess_shell(
        f"{command.rstrip()} -H 'Authorization: Bearer ann'", cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    part = json.loads((await process.communicate())[0])
    shown = json.loads(next(text for text in fences_of("files.md", "json")))
    assert part == {**shown, "url": part["url"], "size": 8}
    assert (await get(ann, server, part["url"]))[2] == b"%PDF-1.7"


# who may read


async def test_a_file_is_for_those_who_belong_to_its_chat(server: Server, people: People) -> None:
    ann, bob, eve = people["ann"], people["bob"], people["eve"]
    chat = await new_chat(ann, server)
    part = await stored(ann, server, chat)
    assert await invite(ann, server, chat, "bob") == 200
    assert (await get(bob, server, part["url"]))[0] == 200
    unknown = part["url"].replace(chat, "nobody-knows")
    missing = await get(eve, server, unknown)
    assert (await get(eve, server, part["url"]))[::2] == missing[::2]
    assert missing[0] == 404
    for headers in ({"If-None-Match": "*"}, {"Range": "bytes=0-1"}):
        assert (await get(eve, server, part["url"], **headers))[0] == 404
    assert (await upload(eve, server, chat))[0] == 404
    async with aiohttp.ClientSession() as nobody:
        assert (await get(nobody, server, part["url"]))[0] == 401
        assert (await upload(nobody, server, chat))[0] == 401
    tag = (await get(bob, server, part["url"]))[1]["Etag"]
    async with ann.delete(f"{server.url}/api/chats/{chat}/participants/bob") as response:
        assert response.status == 200
    assert (await get(bob, server, part["url"]))[0] == 404
    assert (await get(bob, server, part["url"], **{"If-None-Match": tag}))[0] == 404  # not even that it is unchanged


async def test_the_id_of_a_file_is_of_no_use_in_another_chat(server: Server, people: People) -> None:
    ann, eve = people["ann"], people["eve"]
    theirs, hers = await new_chat(ann, server), await new_chat(eve, server)
    part = await stored(ann, server, theirs)
    moved = part["url"].replace(theirs, hers)
    assert (await get(eve, server, moved))[0] == 404
    for url in (part["url"], moved):
        status, text = await ask(eve, server, hers, {**part, "url": url})
        assert (status, text) == (409, "There is no such file in this chat. Upload it again.")
    own = await stored(eve, server, hers)
    assert own["url"] != moved


async def test_a_picture_of_a_page_is_loaded_with_the_pass_of_its_stream(server: Server, people: People) -> None:
    """An element of a page sends no header. The ticket is left for the stream."""
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    part = await stored(ann, server, chat)
    async with ann.post(f"{server.url}/tickets") as response:
        ticket = response.headers["Set-Cookie"].partition(";")[0]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as page:
        same = {"Sec-Fetch-Site": "same-origin"}
        assert (await get(page, server, part["url"], Cookie=ticket, **same))[0] == 401
        async with page.get(f"{server.url}/stream/state?slices=chat/{chat}", headers={"Cookie": ticket}) as stream:
            assert stream.status == 200
            cookie = stream.headers["Set-Cookie"].partition(";")[0]
        assert (await get(page, server, part["url"], Cookie=cookie, **same))[::2] == (200, PNG)
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert (await get(page, server, part["url"], Cookie=cookie, **foreign))[0] == 401
        async with page.post(f"{server.url}/api/chats/{chat}/files", data=PNG, headers={"Cookie": cookie}) as response:
            assert response.status == 401


# ranges and caches


async def test_parts_of_a_file_and_what_is_unchanged(server: Server, people: People) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    url, size = (await stored(ann, server, chat))["url"], len(PNG)
    for header, first, last in (("bytes=0-0", 0, 0), ("bytes=5-", 5, size - 1), ("bytes=-7", size - 7, size - 1)):
        status, headers, body = await get(ann, server, url, Range=header)
        assert (status, body) == (206, PNG[first : last + 1])
        assert headers["Content-Range"] == f"bytes {first}-{last}/{size}"
    status, headers, body = await get(ann, server, url, Range=f"bytes={size}-")
    assert (status, headers["Content-Range"], json.loads(body)["code"]) == (
        416,
        f"bytes */{size}",
        "range_not_satisfiable",
    )
    bomb = "bytes=" + ",".join("0-" for _ in range(1_000))
    for ignored in (bomb, "bytes=x", "lines=1-2", "bytes=9-3"):
        assert (await get(ann, server, url, Range=ignored))[::2] == (200, PNG)
    _, headers, _ = await get(ann, server, url)
    tag = headers["Etag"]
    status, headers, body = await get(ann, server, url, **{"If-None-Match": f'"x", {tag}'})
    assert (status, body, headers["Etag"]) == (304, b"", tag)
    assert (await get(ann, server, url, Range="bytes=0-0", **{"If-Range": tag}))[0] == 206
    assert (await get(ann, server, url, Range="bytes=0-0", **{"If-Range": '"other"'}))[0] == 200
    async with ann.head(f"{server.url}{url}") as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(size))


# what is refused


async def test_what_cannot_be_stored_is_refused_and_leaves_nothing(server: Server, people: People) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    before = blobs(server)
    for media_type in ("text/html", "image/svg+xml", "image/png, text/html", "text/html;x=image/png", "*/*", ""):
        status, problem = await upload(ann, server, chat, media_type=media_type)
        assert (status, problem["reason"]) == (409, "file_refused"), media_type
    for name in ("a%0D%0AX:%201", "%E2%80%AEgnp.exe", "a" * 256):
        status, problem = await upload(ann, server, chat, query=f"?filename={name}")
        assert (status, problem["reason"]) == (409, "file_refused"), name
    assert (await upload(ann, server, chat, **{"Content-Encoding": "gzip"}))[0] == 415
    assert (await upload(ann, server, chat, query="?name=x"))[0] == 400
    assert (await upload(ann, server, "no-such-chat"))[0] == 404
    assert (await upload(ann, server, chat, media_type="multipart/form-data"))[0] == 400
    status, problem = await upload(ann, server, chat, bytes(LIMIT + 100_000))
    assert (status, problem["code"]) == (413, "too_large")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(10_000)

    status, problem = await upload(ann, server, chat, endless())
    assert (status, problem["code"]) == (413, "too_large")
    assert blobs(server) == before
    async with ann.post(
        f"{server.url}/api/chats/{chat}/files", data=PNG, headers={"Origin": "https://evil.example"}
    ) as r:
        assert r.status == 403


@pytest.mark.parametrize(
    "file", ["..", "%2e%2e%2fjournal.db", "x" * 32, "0" * 31, "A" * 32, "0" * 32 + "%00", "0" * 32]
)
async def test_an_id_names_nothing_but_a_file(server: Server, people: People, file: str) -> None:
    chat = await new_chat(people["ann"], server)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        f"GET /api/chats/{chat}/files/{file} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ann\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
    writer.close()


async def test_a_link_in_the_folder_leads_nowhere(server: Server, people: People) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    first, second = await stored(ann, server, chat), await stored(ann, server, chat, b"second")
    place = next(path for path in blobs(server) if path.name in first["url"])
    place.unlink()
    place.symlink_to(server.env["FILED_JOURNAL"].removeprefix("sqlite:///"))
    assert (await get(ann, server, first["url"]))[0] == 404
    folder = place.parent
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))
    assert (await get(ann, server, second["url"]))[0] == 404
    status, text = await ask(ann, server, chat, first)  # the state knows it, so it can be asked about
    assert (status, "BlobMissing" in text, "[0]" in text) == (200, True, True)


async def test_a_chat_and_a_person_have_limits(server: Server, people: People) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    statuses = [(await upload(ann, server, chat, bytes(LIMIT), "text/plain"))[0] for _ in range(5)]
    assert statuses == [201, 201, 201, 201, 409]
    async with person("zoe") as zoe:
        last = 201
        while last == 201:
            other = await new_chat(zoe, server)
            for _ in range(4):
                last = (await upload(zoe, server, other, bytes(LIMIT), "text/plain"))[0]
        assert last == 429
    assert (await upload(ann, server, await new_chat(ann, server)))[0] == 201


async def test_an_upload_that_is_cut_leaves_nothing(server: Server, people: People) -> None:
    chat = await new_chat(people["ann"], server)
    before = blobs(server)
    for length, sent in (
        (b"Content-Length: 300000", bytes(299_999)),
        (b"Transfer-Encoding: chunked", b"ffff\r\n" + bytes(65_535)),
    ):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            head = [
                b"POST /api/chats/%s/files HTTP/1.1" % chat.encode(),
                b"Host: 127.0.0.1",
                b"Authorization: Bearer ann",
            ]
            raw.sendall(b"\r\n".join([*head, b"Content-Type: text/plain", length, b"", b""]) + sent)
            await eventually(lambda: len(blobs(server)) > len(before))  # it is being written
            assert [path.parent.name for path in blobs(server) if path not in before] == [".incoming"]
        await eventually(lambda: blobs(server) == before)


# what goes


async def test_files_go_with_their_chat(server: Server, people: People) -> None:
    ann, chat = people["ann"], await new_chat(people["ann"], server)
    canary = b"canary-in-a-file"
    waiting = await stored(ann, server, chat, canary, media_type="text/plain")
    await ask(ann, server, chat, data_part(canary * 2))
    await ended(ann, server, chat)
    kept = (await read_chat(ann, server, chat))["messages"][0]["parts"][0]
    assert sum(canary in path.read_bytes() for path in blobs(server)) == 2
    async with ann.delete(f"{server.url}/api/chats/{chat}") as response:
        assert response.status == 200
    assert not any(canary in path.read_bytes() for path in blobs(server))
    for part in (waiting, kept):
        assert (await get(ann, server, part["url"]))[0] == 404
    journal = Path(server.env["FILED_JOURNAL"].removeprefix("sqlite:///"))
    ids = [part["url"].rpartition("/")[2].encode() for part in (waiting, kept)]
    for path in journal.parent.glob(f"{journal.name}*"):
        assert path.is_dir() or not any(id in path.read_bytes() for id in ids), path.name


async def test_what_nobody_asks_about_goes_after_a_day(tmp_path: Path) -> None:
    env = {"FILED_JOURNAL": f"sqlite:///{tmp_path / 'journal.db'}", "AHEAD": str(tmp_path / "ahead")}
    async with person("ann") as ann:
        with filed(**env) as server:
            chat = await new_chat(ann, server)
            used, unused = await stored(ann, server, chat), await stored(ann, server, chat, b"unused")
            await ask(ann, server, chat, used)
            await ended(ann, server, chat)
            server.kill()
        folder = tmp_path / "journal.db.files"
        abandoned = folder / ".incoming" / "abandoned"
        abandoned.write_bytes(b"half a fi")
        os.utime(abandoned, (1, 1))
        (folder / ".incoming" / "new").write_bytes(b"half a fi")
        for hours, left in ((23, 200), (25, 404)):
            move(tmp_path / "ahead", hours * 3_600)
            with filed(**env) as server:
                await eventually(partial(_is_status, ann, server, unused["url"], left))
                assert (await get(ann, server, used["url"]))[::2] == (200, PNG)
        assert len([path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".incoming"]) == 1
        assert not abandoned.exists()


async def _is_status(http: Http, server: Server, url: str, status: int) -> bool:
    return (await get(http, server, url))[0] == status


async def test_a_server_that_is_killed_in_an_upload_has_no_half_file(tmp_path: Path) -> None:
    env = {"FILED_JOURNAL": f"sqlite:///{tmp_path / 'journal.db'}"}
    folder = tmp_path / "journal.db.files"
    async with person("ann") as ann:
        with filed(**env) as server:
            chat = await new_chat(ann, server)
            with socket.create_connection(("127.0.0.1", server.port)) as raw:
                head = f"POST /api/chats/{chat}/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ann\r\n"
                raw.sendall(
                    f"{head}Content-Type: text/plain\r\nContent-Length: 300000\r\n\r\n".encode() + bytes(290_000)
                )
                await eventually(lambda: any(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
                server.kill()
        assert [path.parent.name for path in folder.rglob("*") if path.is_file()] == [".incoming"]
        with filed(**env) as server:
            assert (await upload(ann, server, chat))[0] == 201


async def test_uploads_that_send_nothing_take_no_room_from_others(server: Server, people: People) -> None:
    chat = await new_chat(people["ann"], server)
    head = f"POST /api/chats/{chat}/files HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ann\r\n"
    stalled = f"{head}Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 300000\r\n\r\n--x".encode()
    with contextlib.ExitStack() as open_:
        for _ in range(520):
            open_.enter_context(socket.create_connection(("127.0.0.1", server.port))).sendall(stalled)
        await asyncio.to_thread(_answer, server)
        bob = people["bob"]
        assert (await upload(bob, server, await new_chat(bob, server)))[0] == 201


def _answer(server: Server) -> None:
    """Returns once the server has read what came before."""
    with socket.create_connection(("127.0.0.1", server.port)) as last:
        last.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert last.recv(1)


# other journals


async def test_without_a_place_for_files_none_is_accepted(people: People) -> None:
    with filed(FILED_NONE="1") as server:
        ann, chat = people["ann"], await new_chat(people["ann"], server)
        status, problem = await upload(ann, server, chat)
        assert (status, problem["reason"], problem["detail"]) == (
            409,
            "file_refused",
            "This server cannot store files.",
        )
        assert await ask(ann, server, chat, data_part(PNG)) == (409, "This server cannot store files.")
        assert "Chat(blobs=FolderBlobs" in server.stop()


async def test_files_of_a_journal_in_memory_go_with_the_process(people: People, tmp_path: Path) -> None:
    with filed(FILED_OPEN="1", TMPDIR=str(tmp_path)) as server:
        chat = await new_chat(people["ann"], server)
        part = await stored(people["ann"], server, chat)
        assert (await get(people["ann"], server, part["url"]))[0] == 200
        assert list(tmp_path.iterdir())
        server.stop()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not AVAILABLE, reason="a file system of its own takes root on Linux")
async def test_a_full_disk_refuses_files_and_loses_none(people: People, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    with SmallDisk(folder, "8m") as disk:
        journal = tmp_path / "journal.db"
        (tmp_path / "journal.db.files").symlink_to(folder)
        with Server("serve", APP, env={"FILED_JOURNAL": f"sqlite:///{journal}"}, prefix=disk.prefix) as server:
            ann, chat = people["ann"], await new_chat(people["ann"], server)
            before = await stored(ann, server, chat)
            disk.fill()
            status, problem = await upload(ann, server, chat)
            assert (status, problem["code"]) == (503, "unavailable")
            assert problem["detail"] == "there is no room for more files; try again later"
            disk.empty()
            assert (await get(ann, server, before["url"]))[::2] == (200, PNG)
            assert (await upload(ann, server, chat))[0] == 201
