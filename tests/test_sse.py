"""Server-Sent Events, encoded and decoded, at every split of the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.errors import TooLarge
from statestream.sse import Decoder, Event, encode

VECTORS: list[tuple[str, bytes, list[tuple[str, str, str]]]] = [
    ("plain", b"data: a\n\n", [("message", "a", "")]),
    ("named, with an id", b"event: e\nid: 1\ndata: a\n\n", [("e", "a", "1")]),
    ("crlf", b"event: e\r\ndata: a\r\n\r\n", [("e", "a", "")]),
    ("cr", b"event: e\rdata: a\r\r", [("e", "a", "")]),
    ("mixed ends", b"data: a\r\ndata: b\n\rdata: c\r\n\n", [("message", "a\nb", ""), ("message", "c", "")]),
    ("a byte order mark", b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
    ("a second one is data", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    ("comments", b": hi\ndata: a\n:\n\n", [("message", "a", "")]),
    ("one leading space goes", b"data:  a\ndata:b\n\n", [("message", " a\nb", "")]),
    ("no colon", b"data\n\n", [("message", "", "")]),
    ("two of them", b"data\ndata\n\n", [("message", "\n", "")]),
    ("a space before the colon", b"data : a\n\n", []),
    ("unfinished", b"data: a\n", []),
    ("unfinished, its id counts not", b"id: 1\n\nid: 2\ndata: a\n", []),
    ("an id without data counts", b"id: 7\n\ndata: a\n\n", [("message", "a", "7")]),
    ("an id stays", b"id: 7\ndata: a\n\ndata: b\n\n", [("message", "a", "7"), ("message", "b", "7")]),
    ("an empty id resets", b"id: 7\ndata: a\n\nid\ndata: b\n\n", [("message", "a", "7"), ("message", "b", "")]),
    ("an id with NUL is none", b"id: 7\n\nid: 8\x00\ndata: a\n\n", [("message", "a", "7")]),
    ("unknown fields", b"foo: bar\ndata: a\n\n", [("message", "a", "")]),
    ("event without data is none", b"event: e\n\ndata: a\n\n", [("message", "a", "")]),
    (
        "other line separators are text",
        "data: a\u2028b\u0085c\x0bd\n\n".encode(),
        [("message", "a\u2028b\u0085c\x0bd", "")],
    ),
    ("many bytes a character", "data: é€😀\n\n".encode(), [("message", "é€😀", "")]),
    ("invalid UTF-8", b"data: a\xffb\n\n", [("message", "a\ufffdb", "")]),
]


@pytest.mark.parametrize(("raw", "expected"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_every_split_gives_the_same_events(raw: bytes, expected: list[tuple[str, str, str]]) -> None:
    wanted = [Event(event=event, data=data, last_id=last_id) for event, data, last_id in expected]
    for first in range(len(raw) + 1):
        for second in range(first, len(raw) + 1):
            decoder = Decoder()
            parts = (raw[:first], raw[first:second], raw[second:])
            assert [event for part in parts for event in decoder.feed(part)] == wanted


@pytest.mark.parametrize(
    ("raw", "retry"),
    [(b"5", 5), (b"007", 7), (b"", None), (b"+5", None), (b"-1", None), ("²".encode(), None), (b"1.5", None)],
)
def test_retry_takes_digits_only(raw: bytes, retry: int | None) -> None:
    decoder = Decoder()
    decoder.feed(b"retry: " + raw + b"\n\n")
    assert decoder.retry == retry


def test_an_event_has_a_limit() -> None:
    for raw in (b"data: " + b"x" * 200, b"data: xxxxxxxxx\n" * 20, b"x" * 200):
        with pytest.raises(TooLarge):
            feed_slowly(Decoder(limit=100), raw)
    fine = Decoder(limit=100)
    assert len([e for _ in range(50) for e in fine.feed(b"data: " + b"x" * 80 + b"\n\n")]) == 50


def feed_slowly(decoder: Decoder, raw: bytes) -> None:
    for byte in raw:
        decoder.feed(bytes([byte]))


names = st.from_regex(r"[a-z.]{1,12}", fullmatch=True)
ids = st.one_of(st.none(), st.from_regex(r"[0-9a-z.]{1,12}", fullmatch=True))


@given(
    st.lists(st.tuples(names, st.text().map(lambda t: t.replace("\n", "").replace("\r", "")), ids)), st.integers(1, 9)
)
def test_what_is_encoded_is_decoded(events: list[tuple[str, str, str | None]], size: int) -> None:
    raw = b"".join(encode(name, text.encode(errors="replace"), id=id) for name, text, id in events)
    decoder = Decoder()
    decoded = [event for at in range(0, len(raw), size) for event in decoder.feed(raw[at : at + size])]
    last, expected = "", []
    for name, text, id in events:
        last = last if id is None else id
        expected.append(Event(event=name, data=text.encode(errors="replace").decode(), last_id=last))
    assert decoded == expected
