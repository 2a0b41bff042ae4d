"""What strangers say of files: ranges, names, forms and URLs. All of it is pure."""

from __future__ import annotations

import base64
import re
from email.message import Message
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.chat.file_urls import content_mark, data_of, file_of, same_parts, url_of
from statestream.chat.protocols.rest.file_headers import disposition, range_of
from statestream.chat.protocols.rest.multipart import MAX_HEADERS, MAX_SKIPPED, FilePart, boundary_of
from statestream.core.errors import Malformed, RangeNotSatisfiable

BOUNDARY = b"x-boundary"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 10)),
        ("bytes=90-1000", (90, 10)),
        ("bytes=-10", (90, 10)),
        ("bytes=-1000", (0, 100)),
        (" BYTES=1-1 ", (1, 1)),
        *(
            (ignored, None)
            for ignored in (None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-3", "bytes=0-1,5-6")
        ),
        *(
            (ignored, None)
            for ignored in ("bytes=+1-2", "bytes=1-2;", "bytes=١-٢", "items=0-1", "bytes=" + "9" * 5_000 + "-")
        ),
    ],
)
def test_a_range_is_read_or_ignored(header: str | None, expected: tuple[int, int] | None) -> None:
    assert range_of(header, 100) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=0-", 0), ("bytes=-5", 0)])
def test_a_range_behind_the_end_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable):
        range_of(header, size)


@given(name=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40))
def test_a_name_is_one_line_of_ascii_that_means_the_name(name: str) -> None:
    """Old programs read the first form, and all others the second."""
    header = disposition("application/pdf", name)
    assert header.isascii()
    assert header.isprintable()
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    encoded = re.search(r"filename\*=UTF-8''(\S+)", header)
    assert (unquote(encoded[1]) == name) if encoded else (header == f'attachment; filename="{name}"')


def test_only_what_pages_show_is_shown_inline() -> None:
    for kind in ("image/png", "video/mp4", "audio/ogg; codecs=opus"):
        assert disposition(kind, None) == "inline"
    for kind in ("text/plain", "application/pdf", "image/svg+xml", "text/html", "image/heic"):
        assert disposition(kind, None) == "attachment"
    hostile = 'a"\r\nX: 1;\\.png'
    assert disposition("image/png", hostile).startswith(
        "inline; filename=\"a___X_ 1__.png\"; filename*=UTF-8''a%22%0D%0AX"
    )


def form(*parts: tuple[str, bytes], end: bytes = b"--\r\n") -> bytes:
    sent = [b"--" + BOUNDARY + b"\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in parts]
    return b"".join([*sent, b"--" + BOUNDARY + end])


FILE_HEAD = 'Content-Disposition: form-data; name="file"; filename="a b.png"\r\nContent-Type: image/png'
FIELD = ('Content-Disposition: form-data; name="note"', b"hello")


def fed(body: bytes, size: int) -> FilePart:
    """What has read a body in pieces of that size."""
    part = FilePart(BOUNDARY)
    for start in range(0, len(body), size):
        part.feed(body[start : start + size])
    return part


@given(
    content=st.binary(max_size=200)
    | st.lists(st.sampled_from([b"\r\n--x-boundar", b"\r", b"\n", b"-", b"z"])).map(b"".join),
    cuts=st.lists(st.integers(0, 500), max_size=20),
    fields=st.integers(0, 2),
    tail=st.booleans(),
)
def test_a_file_is_read_however_the_form_is_cut(content: bytes, cuts: list[int], fields: int, tail: bool) -> None:
    body = b"preamble\r\n" + form(*[FIELD] * fields, (FILE_HEAD, content), *([FIELD] if tail else []))
    places = sorted({0, *(cut for cut in cuts if cut < len(body)), len(body)})
    part, found = FilePart(BOUNDARY), b""
    for start, end in pairwise(places):
        if not part.complete:
            found += part.feed(body[start:end])
    assert part.complete
    assert (found, part.filename, part.media_type) == (content, "a b.png", "image/png")


def test_a_form_that_is_cut_is_not_complete() -> None:
    body = form((FILE_HEAD, b"content"))
    for end in range(len(body) - len(b"--\r\n")):
        part = FilePart(BOUNDARY)
        part.feed(body[:end])
        assert not part.complete


@pytest.mark.parametrize(
    "body",
    {
        "no file": form(FIELD),
        "nothing": form(),
        "too much before it": bytes(MAX_SKIPPED + 1_000),
        "too many fields": form(*[FIELD] * 2_000),
        "too many empty parts": (b"--" + BOUNDARY + b"\r\n\r\n\r\n") * 200,
        "headers without end": form(("X: " + "x" * MAX_HEADERS * 2, b"")),
        "no text": b"--" + BOUNDARY + b"\r\n\xff\r\n\r\n",
        "base64": form((FILE_HEAD + "\r\nContent-Transfer-Encoding: base64", b"AAAA")),
        "compressed": form((FILE_HEAD + "\r\nContent-Encoding: gzip", b"AAAA")),
    }.values(),
)
def test_a_form_without_a_plain_file_is_malformed(body: bytes) -> None:
    for size in (1, 7, len(body)):
        with pytest.raises(Malformed):
            fed(body, size)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ('a\\"b', 'a"b'),
        ("a%22b", 'a"b'),
        ("a\\\\b", "a\\b"),
        ("größe", "größe"),
        ("a;b=c", "a;b=c"),
        ("a%0D%0Ab", "a\r\nb"),
    ],
)
def test_a_name_in_a_form_may_be_quoted(sent: str, read: str) -> None:
    part = FilePart(BOUNDARY)
    part.feed(form((f'Content-Disposition: form-data; name="f"; filename="{sent}"', b"x")))
    assert part.filename == read


def test_a_boundary_is_read_or_malformed() -> None:
    assert boundary_of("multipart/form-data; boundary=abc") == b"abc"
    assert boundary_of('multipart/form-data; charset=x; boundary="a b"') == b"a b"
    for wrong in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=ü",
    ):
        with pytest.raises(Malformed):
            boundary_of(wrong)


@given(st.text(max_size=80) | st.from_regex(r"/api/chats/[^/]{0,10}/files/[0-9a-f]{30,34}", fullmatch=True))
def test_a_url_names_a_file_in_one_spelling_only(url: str) -> None:
    found = file_of(url)
    assert found is None or url_of(*found) == url


def test_what_a_page_posts_again_is_what_the_chat_has() -> None:
    data = base64.b64encode(b"picture").decode()
    posted = {"type": "file", "mediaType": "image/png", "url": f"data:image/png;base64,{data}"}
    assert data_of(posted["url"]) == b"picture"
    own = {**posted, "url": url_of("42", content_mark("image/png", b"picture") + "0" * 12), "filename": "a.png"}
    text = {"type": "text", "text": "x"}
    assert same_parts([text, own], [text, posted])
    assert same_parts([own], [{**own, "filename": "b.png"}])
    assert same_parts([posted], [posted])  # of a journal that has files in it
    for other in (
        [text, {**posted, "url": f"data:image/png;base64,{data}AAAA"}],
        [text, {**posted, "mediaType": "image/gif"}],
        [text, {**posted, "url": "data:image/png;base64,%%%"}],
        [text, {**posted, "url": "https://example.org/a.png"}],
        [text, text],
        [text],
    ):
        assert not same_parts([text, own], other)
