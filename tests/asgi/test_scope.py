"""What an ASGI server or a framework says about a request, as the head that aiohttp parses."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import WSMsgType

from statestream.asgi.frames import Frame, FrameReader
from statestream.asgi.scope import ends_of, has_body, head_of, place_of

BY = [
    ("alone", {"path": "/chats/a b", "raw_path": b"/chats/a%20b"}, "", "/chats/a%20b"),
    ("without raw_path", {"path": "/chats/a b"}, "", "/chats/a%20b"),
    ("with the query in raw_path", {"path": "/state", "raw_path": b"/state?at=1"}, "", "/state"),
    ("Starlette", {"root_path": "/live", "path": "/live/state", "raw_path": b"/live/state"}, "/live", "/state"),
    ("Starlette, at the mount", {"root_path": "/live", "path": "/live", "raw_path": b"/live"}, "/live", "/"),
    ("another name", {"root_path": "/live", "path": "/lively", "raw_path": b"/lively"}, "/live", "/lively"),
    ("hypercorn's root_path", {"root_path": "/api", "path": "/state", "raw_path": b"/state"}, "/api", "/state"),
    ("Litestar", {"path": "/state/", "raw_path": b"/live/state", "root_path": ""}, "/live", "/state"),
    ("Litestar, with a slash", {"path": "/state/", "raw_path": b"/live/state/"}, "/live", "/state/"),
    ("Litestar under a root_path", {"root_path": "/a", "path": "/s/", "raw_path": b"/a/live/s"}, "/a/live", "/s"),
    ("an encoded slash", {"root_path": "/l", "path": "/l/x/y/z", "raw_path": b"/l/x%2Fy/z"}, "/l", "/x%2Fy/z"),
    ("not in ASCII", {"path": "/chats/Ł", "raw_path": b"/chats/%C5%81"}, "", "/chats/%C5%81"),
]


@pytest.mark.parametrize(("scope", "mount", "path"), [case[1:] for case in BY], ids=[case[0] for case in BY])
def test_the_place_is_found_whoever_mounts(scope: dict[str, Any], mount: str, path: str) -> None:
    place = place_of(scope)
    assert (place.mount, place.path) == (mount, path)


def http(method: str = "POST", version: str = "1.1", *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "method": method, "http_version": version, "path": "/", "headers": list(headers)}


def test_a_body_is_expected_where_the_head_announces_one() -> None:
    assert has_body(http("POST", "1.1", (b"content-length", b"5")))
    assert has_body(http("GET", "1.1", (b"transfer-encoding", b"chunked")))
    assert has_body(http("POST", "2"))
    assert not has_body(http("POST", "1.1"))
    assert not has_body(http("POST", "2", (b"content-length", b"0")))
    assert not has_body(http("GET", "2"))


def test_headers_about_the_connection_are_replaced() -> None:
    headers = [
        (b"host", b"localhost"),
        (b"connection", b"keep-alive, x"),
        (b"content-length", b"3"),
        (b"expect", b"100-continue"),
        (b"upgrade", b"h2c"),
        (b"x", b"1"),
        (b"x", b"2"),
    ]
    head = head_of(http("POST", "1.1", *headers) | {"query_string": b"a=1"}, "/state")
    assert head == (
        b"POST /state?a=1 HTTP/1.1\r\nhost: localhost\r\nupgrade: h2c\r\nx: 1\r\nx: 2\r\n"
        b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    )


def test_nothing_can_end_a_line_of_the_head() -> None:
    for name, value in ((b"x", b"1\r\nHost: evil"), (b"x\n", b"1"), (b"x", b"\0")):
        with pytest.raises(ValueError, match="line break"):
            head_of(http("GET", "1.1", (name, value)), "/")
    with pytest.raises(ValueError, match="line break"):
        head_of(http() | {"query_string": b"a HTTP/1.1\r\nx: 1"}, "/")


def test_what_is_not_an_address_is_unknown() -> None:
    assert ends_of({"client": ("::1", 5), "server": ["127.0.0.1", 80]})["sockname"] == ("127.0.0.1", 80)
    for client in (None, ("testclient", 5), ("/run/socket", None), ()):
        assert ends_of({"client": client})["peername"] is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 100_000])
def test_a_frame_is_found_wherever_it_was_cut(size: int) -> None:
    frames = [Frame(kind=WSMsgType.BINARY, data=b"x" * size), Frame(kind=WSMsgType.TEXT, data=b"y")]
    data = b"".join(frame.encode() for frame in frames)
    for step in (1, 2, 3, 9, len(data)):
        if len(data) // step > 5_000:
            continue
        reader = FrameReader()
        found = [frame for at in range(0, len(data), step) for frame in reader.read(data[at : at + step])]
        assert found == frames


def test_a_lost_connection_ends_with_a_close_frame_that_has_no_code() -> None:
    assert Frame.closing(1006) == Frame.closing(1005)
    assert Frame.closing(1005) == Frame(kind=WSMsgType.CLOSE, data=b"")
    found = Frame.closing(3000)
    assert found.code == 3000
