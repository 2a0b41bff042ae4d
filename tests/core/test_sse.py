"""Server-Sent Events, encoded and decoded, at every split of the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.core.errors import TooLarge
from statestream.protocol.sse import Decoder, Event, encode
from statestream.tools.conformance.clients.sse_vectors import SseVector

VECTORS = SseVector.all()


def test_there_are_enough_vectors_and_each_has_a_name() -> None:
    assert len({vector.name for vector in VECTORS}) == len(VECTORS) >= 120


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_every_split_gives_what_the_standard_says(vector: SseVector) -> None:
    """In one piece, in two, in three, wherever the splits are, and byte by byte."""
    raw, wanted = vector.raw, [Event(event=kind, data=data, last_id=id) for kind, data, id in vector.events]
    pairs = ((first, second) for first in range(len(raw) + 1) for second in range(first, len(raw) + 1))
    for parts in [*((raw[:a], raw[a:b], raw[b:]) for a, b in pairs), [bytes([byte]) for byte in raw]]:
        decoder = Decoder()
        assert [event for part in parts for event in decoder.feed(part)] == wanted, parts
        assert (decoder.last_id, decoder.retry) == (vector.last_id, vector.retry), parts


def test_the_last_id_of_the_connection_before_stays_until_there_is_another() -> None:
    decoder = Decoder(last_id="7")
    assert decoder.feed(b"data: a\n\n") == [Event(event="message", data="a", last_id="7")]
    assert decoder.feed(b"id: 8\n") == []
    assert decoder.last_id == "7"
    assert decoder.feed(b"\n") == []
    assert decoder.last_id == "8"


def test_an_event_has_a_limit() -> None:
    for raw in (b"data: " + b"x" * 200, b"data: xxxxxxxxx\n" * 20, b"data:\n" * 200, b"x" * 200):
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
