"""What is fuzzed: each target takes any bytes, and fails if a parser breaks its promise.

A parser raises the errors that its docstring names, and no others. What it accepts, it gives back the same.

Invariants: targets are pure and deterministic, so that an input that fails can become a test.
"""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import random
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from statestream.auth import JWT
from statestream.auth.jwks import OneKey
from statestream.chat.file_urls import file_of, url_of
from statestream.chat.protocols.ag_ui.request import RunInput
from statestream.chat.protocols.ai_sdk.request import Post
from statestream.chat.protocols.ai_socket.routes import Command, Resume
from statestream.chat.protocols.phases.routes import PersonMessage
from statestream.chat.protocols.rest.file_headers import disposition, range_of
from statestream.chat.protocols.rest.multipart import FilePart, boundary_of
from statestream.chat.slices.conversation import chat_slice
from statestream.client.replica import Replica
from statestream.core.change import Cause, Change, IdempotencyRecord, Position
from statestream.core.errors import (
    Gap,
    Malformed,
    NotJSON,
    RangeNotSatisfiable,
    StatestreamError,
    TooLarge,
    Unauthenticated,
)
from statestream.core.patch import apply_patch
from statestream.core.values import encode, loads, plain, same
from statestream.journal.contract import KeptRecord
from statestream.journal.export_file import ExportWriter
from statestream.journal.importing import examined
from statestream.protocol.sse import Decoder, Event
from statestream.server.bodies import checked

SECRET = "a secret of more than thirty-two bytes"
READER = JWT(issuer="https://login.example", audience="board", algorithms=["HS256"], key=SECRET)


def sse(data: bytes) -> None:
    """However the bytes are split, the events are the same."""
    whole, parts = Decoder(limit=1_000), Decoder(limit=1_000)
    cuts = sorted(random.Random(len(data)).choices(range(len(data) + 1), k=3))
    try:
        expected = whole.feed(data)
    except TooLarge:
        return
    ends = zip([0, *cuts], [*cuts, len(data)], strict=True)
    assert [event for begin, end in ends for event in parts.feed(data[begin:end])] == expected
    assert (whole.last_id, whole.retry) == (parts.last_id, parts.retry)


def cursor(data: bytes) -> None:
    """A position has one spelling."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(Malformed):
        assert str(Position.parse(text)) == text


def values(data: bytes) -> None:
    """What is accepted can be sent, and is the same when it comes back."""
    with contextlib.suppress(NotJSON):
        value = loads(data)
        assert same(loads(encode(value)), value)
        assert same(json.loads(encode(value)), value)
        assert same(plain(value), value)


def patch(data: bytes) -> None:
    """A patch that does not fit changes nothing, whatever it consists of."""
    with contextlib.suppress(NotJSON):
        given = loads(data)
        if type(given) is list and len(given) == 2 and type(given[1]) is list:
            before = encode(given[0])
            try:
                apply_patch(given[0], given[1])
            except Gap:
                assert encode(given[0]) == before


def frame(data: bytes) -> None:
    """A replica takes a frame as a whole, or has a gap."""
    replica = Replica()
    begun = {"type": "state.initial", "reason": "start", "position": "1.a", "slices": {"board": {"a": [1]}}}
    more = {"versions": {"board": 1}, "heartbeat": 1000, "timestamp": 0}
    replica.apply(Event(event="state.initial", data=json.dumps(begun | more), last_id="1.a"))
    text = data.decode("utf-8", "replace")
    for kind in ("state.update", "state.catchup", "state.initial", "state.resumed", "heartbeat", "stream.end"):
        with contextlib.suppress(Gap):
            replica.apply(Event(event=kind, data=text, last_id="2.b"))


def token(data: bytes) -> None:
    """A token is an identity, or refused, also if its issuer has signed it. A NUL separates header and claims."""
    header, _, payload = data.partition(b"\0")
    signing = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    signature = urlsafe_b64encode(hmac.digest(SECRET.encode(), signing, "sha256")).rstrip(b"=")
    for text in (data.decode("utf-8", "replace"), f"{signing.decode()}.{signature.decode()}"):
        with contextlib.suppress(Unauthenticated):
            READER._named_key(text)
            READER._identity(READER._verified(text, OneKey(SECRET, ["HS256"])._key))


def _chat(read: Callable[[Any], object]) -> Callable[[bytes], None]:
    """A target for what a chat protocol reads: a question, or an error that its protocol can show."""

    def target(data: bytes) -> None:
        with contextlib.suppress(StatestreamError):
            read(loads(data))

    return target


def _post(value: Any) -> object:
    post, state = checked(Post, value), chat_slice.initial
    return post.to_regenerate(state) or post.question(state, "ada")


def _run(value: Any) -> object:
    run = checked(RunInput, value)
    return run.held, run.leaf, run.question_id(), run.question("ada")


def _command(value: Any) -> object:
    command = checked(Command, value)
    return checked(Resume, value) if command.type == "resume" else _post(value)


def form(data: bytes) -> None:
    """However a form is split, its file is the same. The first line is the `Content-Type`."""
    kind, _, body = data.partition(b"\n")
    cuts = sorted(random.Random(len(body)).choices(range(len(body) + 1), k=3))
    with contextlib.suppress(Malformed):
        boundary = boundary_of(kind.decode("utf-8", "replace"))
        whole, parts = FilePart(boundary), FilePart(boundary)
        expected = whole.feed(body)
        ends = zip([0, *cuts], [*cuts, len(body)], strict=True)
        found = [parts.feed(body[begin:end]) for begin, end in ends if not parts.complete]
        assert b"".join(found) == expected
        assert (whole.begun, whole.complete, whole.filename) == (parts.begun, parts.complete, parts.filename)


def file_headers(data: bytes) -> None:
    """A range is within the file, a name is a header of one line, and a URL has one spelling."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(RangeNotSatisfiable):
        start, length = range_of(text, 100) or (0, 100)
        assert 0 <= start < start + length <= 100
    header = disposition(text, text)
    assert header.isascii()
    assert header.isprintable()
    assert (found := file_of(text)) is None or url_of(*found) == text


def export(data: bytes) -> None:
    """A file is a complete export of a journal, or is refused before anything is written."""
    with contextlib.suppress(Malformed):
        examined(lambda: io.BytesIO(data))


def _exported() -> bytes:
    """An export with a line of each kind."""
    lines: list[bytes] = []
    writer = ExportWriter(lines.append)
    first, second = Position(seq=1, tag="a"), Position(seq=2, tag="b")
    writer.begin(first, second, 1795273610382)
    writer.add_slice("board", first, b'{"tasks":[]}')
    cause = Cause(type="board/added", id="i", actor=None, payload=b"{}")
    data = b'[{"op":"add","path":"/tasks/0","value":1.5}]'
    writer.add_change(
        Change(position=second, slice="board", from_version=1, kind="patches", data=data, cause=cause, at=1)
    )
    record = IdempotencyRecord(digest=b"d", position=second, changes=(("board", 2),))
    writer.add_record(KeptRecord(key=("ada", "i"), record=record, at=0), 5)
    writer.end()
    return b"".join(lines)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "sse": sse,
    "cursor": cursor,
    "values": values,
    "patch": patch,
    "frame": frame,
    "token": token,
    "export": export,
    "form": form,
    "file_headers": file_headers,
    "ai_sdk": _chat(_post),
    "ag_ui": _chat(_run),
    "ai_socket": _chat(_command),
    "phases": _chat(lambda value: checked(PersonMessage, value).question("ada")),
}
_USER = {"id": "q", "role": "user", "content": "Hi", "parts": [{"type": "text", "text": "Hi"}]}
_UPDATE = {"type": "state.update", "slice": "board", "from": 1, "version": 2, "timestamp": 0}
_CLAIMS = {"iss": "https://login.example", "aud": "board", "sub": "ada", "iat": 1, "exp": 99999999999, "roles": ["a"]}
SEEDS: dict[str, list[bytes]] = {
    "sse": [b"event: a\nid: 1\nretry: 5\ndata: x\ndata: y\n\n", b"\xef\xbb\xbfdata\r\rdata: \xff\r\n\r\n: c\n"],
    "cursor": [b"1042.k3v9x2m", b"0.0", b"9007199254740991.a", b"9007199254740992.a"],
    "values": [b'{"a":[1,-0,1.5e3,null,true,"\\ud83d\\ude00"],"constructor":{}}', b"[[[]]]", b"9007199254740991"],
    "patch": [
        b'[{"a":[1,2]},[{"op":"add","path":"/a/0","value":3},{"op":"remove","path":"/a/2"}]]',
        b'[[1],[{"op":"replace","path":"","value":{}},{"op":"move","from":"/0","path":"/-"}]]',
        b'[{},[{"op":"test","path":"/~0~1","value":1},{"op":"copy","from":"","path":"/a"}]]',
    ],
    "frame": [json.dumps(_UPDATE | {"patches": [{"op": "add", "path": "/a/1", "value": 2}], "cause": {}}).encode()],
    "token": [b"e30.e30.e30", b'{"alg":"HS256","typ":"JWT"}\0' + json.dumps(_CLAIMS).encode()],
    "export": [_exported(), *_exported().splitlines(keepends=True)],
    "form": [
        b'multipart/form-data; boundary=x\n--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x\r\n'
        b'Content-Disposition: form-data; name="f"; filename="a%22.png"\r\nContent-Type: image/png\r\n\r\nPNG\r\n--x--'
    ],
    "file_headers": [b"bytes=0-9", b"bytes=-5", "größe.png".encode(), f"/api/chats/42/files/{'a' * 32}".encode()],
    "ai_sdk": [json.dumps({"id": "c", "messages": [_USER], "trigger": "regenerate-message"}).encode()],
    "ag_ui": [
        json.dumps({"threadId": "t", "runId": "r", "messages": [_USER], "forwardedProps": {"leaf": "q"}}).encode()
    ],
    "ai_socket": [json.dumps({"type": "send", "requestId": "r", "id": "c", "messages": [_USER]}).encode()],
    "phases": [json.dumps({"type": "message", "content": "Hi", "session_id": "c", "id": "q"}).encode()],
}
"""Inputs from which a fuzzer begins."""
