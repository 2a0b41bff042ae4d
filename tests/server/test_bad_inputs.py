"""Whatever a client sends, one real server gives the answer that the protocol names, logs none of it, and serves on.

`tests/support/bad_inputs.py` has the rows. Signed tokens have a table of their own in tests/auth/test_jwt.py, slow
clients in tests/server/test_limits.py, and credentials that end during a stream in tests/server/test_lifetimes.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import socket
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest

from tests.support import FRONT, ROOT, Server
from tests.support.bad_inputs import (
    CANARY,
    CHUNKED,
    MIB,
    ONE_BYTE_CHUNKS,
    OTHER_TOKEN,
    POST,
    ROWS,
    SECRET,
    TOKEN,
    Row,
    action,
    answer_in,
    request,
    told,
)
from tests.support.logins import AUDIENCE, ISSUER, claims, jwk, new_key, public_pem, signed
from tests.support.provider import script
from tests.support.provider_faults import FAULTS, SAID
from tests.support.raw_socket import CLOSE, PING, TEXT, RawSocket, frame

SECONDS = 2.0
"""Tells an answer that came at once from one that waited for something."""
KEY = new_key("ES256")


class Besieged(Server):
    """The server, the positions that rows need, and how long each answer took."""

    position = trimmed = b""

    def __init__(self, *arguments: str, env: dict[str, str]) -> None:
        super().__init__(*arguments, env=env)
        self.took: dict[str, float] = {}

    def ask(self, *parts: bytes, whole: bool = False) -> bytes:
        forked = self.position.partition(b".")[0] + b".another"
        known = {b"@position@": self.position, b"@forked@": forked, b"@trimmed@": self.trimmed}
        for mark, value in known.items():
            parts = tuple(part.replace(mark, value) for part in parts)
        return told(self.port, parts, whole=whole)

    def dispatched(self, body: bytes) -> bytes:
        """The position after a request that is fine."""
        answer = self.ask(request("/dispatch", body=body))
        assert answer_in(answer) == (200, ""), answer
        self.position = str(json.loads(answer.partition(b"\r\n\r\n")[2])["position"]).encode()
        return self.position


def prepared(server: Besieged) -> None:
    """Makes a history that neither the journal nor the memory of the server has from its first position on."""
    server.trimmed = server.dispatched(action("board/counted", {}))
    one = action("board/counted", {}).decode()
    for _ in range(11):
        server.dispatched(f'{{"actions":[{",".join([one] * 1_000)}]}}'.encode())
    while answer_in(server.ask(request("/state?at=@trimmed@"))) != (410, "position_expired"):
        server.dispatched(one.encode())


def assert_silent(log: str) -> None:
    """The only traceback is that of the application's own bug, which quotes nothing.

    An ASGI server adds one for each response that is cut.
    """
    for secret in (CANARY, SAID, TOKEN, OTHER_TOKEN):
        assert secret not in log
    for shift in range(3):  # base64 of a text depends on where it begins
        assert b64encode(b"x" * shift + SECRET + b"x" * 3).decode()[4:-6] not in log
    if FRONT == "statestream":
        assert log.count("Traceback") == log.count("GET /broken/{what} failed")


def held_open(server: Server) -> list[socket.socket]:
    """Clients that have begun something and say nothing more: a head, a body, a WebSocket."""
    begun = [
        b"GET /state HTTP/1.1\r\nHost: localh",
        POST + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        POST + CHUNKED + b"\r\n\r\n5\r\n{",
    ]
    connections = []
    for sent in begun:
        connections.append(socket.create_connection(("127.0.0.1", server.port)))
        connections[-1].sendall(sent)
    return [*connections, RawSocket(server.port, "/ws", headers=(f"Authorization: Bearer {TOKEN}",)).connection]


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory, upstream: str) -> Iterator[Besieged]:
    keys = tmp_path_factory.mktemp("issuer") / "keys.json"
    keys.write_text(json.dumps({"keys": [jwk(KEY, "ES256", kid="1")]}))
    tokens = {TOKEN: {"subject": "ada", "roles": ["editor"]}, OTHER_TOKEN: {"subject": "ben"}}
    jwt = f"JWT(issuer={ISSUER!r}, audience={AUDIENCE!r}, algorithms=['ES256'], jwks={str(keys)!r})"
    env = {"AUTH": f"AnyOf(Tokens({tokens}), {jwt})", "CHATTY_UPSTREAM": f"{upstream}/v1", "OPENAI_API_KEY": CANARY}
    server = Besieged("serve", f"{ROOT / 'tests/apps/besieged.py'}:app", env=env)
    with server:
        prepared(server)
        waiting = held_open(server)
        yield server
        for connection in waiting:
            connection.close()
        log = server.stop()
    name, seconds = max(server.took.items(), key=lambda each: each[1], default=("none", 0.0))
    print(f"the slowest answer: {name}, {seconds * 1000:.0f} ms")
    assert "statestream.access request" in log
    assert_silent(log)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_each_input_has_its_answer_and_the_server_serves_on(besieged: Besieged, row: Row) -> None:
    began = time.monotonic()
    answer = besieged.ask(*row.parts)
    besieged.took[row.name] = took = time.monotonic() - began
    assert answer_in(answer) == row.answer, answer[:2_000]
    assert took < SECONDS
    besieged.dispatched(action("board/counted", {}))


async def test_every_row_of_the_table_has_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_a_body_of_tiny_chunks_holds_up_nobody(besieged: Besieged) -> None:
    """They take a while to parse. Somebody else is answered in between, many times."""
    sent = request("/dispatch", CHUNKED, body=ONE_BYTE_CHUNKS)
    answers = 0
    with ThreadPoolExecutor(1) as other:
        tiny = other.submit(lambda: [answer_in(besieged.ask(sent)) for _ in range(5)])
        while not tiny.done():
            besieged.ask(request("/state?slices=board"))
            answers += 1
    assert tiny.result() == [(400, "malformed")] * 5
    assert answers >= 10


def test_a_thousand_requests_at_once_are_answered_in_order(besieged: Besieged) -> None:
    one = request("/state?slices=board").replace(b"Connection: close\r\n", b"")
    answers = besieged.ask(one * 999 + request("/none"))
    assert answers.count(b"HTTP/1.1 200 OK") == 999
    assert answers.rpartition(b"HTTP/1.1 ")[2].startswith(b"404 ")


def test_one_id_takes_effect_once_however_often_it_comes_at_once(besieged: Besieged) -> None:
    """The same id of another sender is another request."""
    one = request("/dispatch", body=action("board/counted", {}, id="once"))
    many = one.replace(b"Connection: close\r\n", b"") * 99 + one
    with ThreadPoolExecutor(20) as clients:
        answers = b"".join(clients.map(besieged.ask, [many] * 20))
    assert answers.count(b'"duplicate":false') == 1
    assert answers.count(b'"duplicate":true') == 1_999
    assert answer_in(besieged.ask(request("/dispatch", body=action("board/counted", {"by": 2}, id="once")))) == (
        409,
        "action_id_reused",
    )
    assert b'"duplicate":false' in besieged.ask(one.replace(TOKEN.encode(), OTHER_TOKEN.encode()))


# signed tokens


def forged() -> dict[str, str]:
    """Tokens that an issuer has not signed like this. Each has the canary in its claims."""
    payload = claims(name=CANARY)
    good = signed(payload, KEY, "ES256", kid="1")
    head, body, _ = good.split(".")
    none = signed(payload, None, "none")
    return {
        "no algorithm": none,
        "another signature": f"{head}.{body}.{'A' * 86}",
        "a public key as a secret": with_secret(payload, public_pem(KEY)),
        "an extension": signed(payload, KEY, "ES256", kid="1", crit=[CANARY]),
        "a path as kid": signed(payload, KEY, "ES256", kid=f"../../{CANARY}"),
        "another key": signed(payload, new_key("ES256"), "ES256", kid="1"),
        "expired": signed(claims(name=CANARY, exp=1), KEY, "ES256", kid="1"),
        "of the future": signed(claims(name=CANARY, nbf=9_999_999_999), KEY, "ES256", kid="1"),
        "another audience": signed(claims(aud=CANARY), KEY, "ES256", kid="1"),
        "another issuer": signed(claims(iss=f"{ISSUER}.{CANARY}"), KEY, "ES256", kid="1"),
        "too large": signed(claims(name=CANARY * 280), KEY, "ES256", kid="1"),
    }


def with_secret(payload: Any, secret: str) -> str:
    """A token that is signed with a public key, which everybody knows, as if it were a secret."""
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "1"}, payload]
    signing = ".".join(urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    digest = hmac.digest(secret.encode(), signing.encode(), "sha256")
    return f"{signing}.{urlsafe_b64encode(digest).rstrip(b'=').decode()}"


@pytest.mark.parametrize("name", forged())
def test_a_forged_token_is_refused(besieged: Besieged, name: str) -> None:
    answer = besieged.ask(request("/state", b"Authorization: Bearer " + forged()[name].encode(), login=False))
    assert answer_in(answer) == (401, "unauthenticated")
    good = signed(claims(name=CANARY), KEY, "ES256", kid="1").encode()
    assert answer_in(besieged.ask(request("/state", b"Authorization: Bearer " + good, login=False))) == (200, "")


# text that looks like server-sent events

TEXTS = {
    "CR": "a\rb", "LF": "a\nb", "CRLF": "a\r\nb", "CRCR": "a\r\rb", "an event": "x\n\nevent: evil\ndata: {}\n\n",
    "an event with CR": "x\r\revent: evil\rdata: {}\r\r", "U+2028": "a\u2028b", "U+0085": "a\x85b",
    "a BOM": "\ufeffa", "an id": "x\nid: 1.a\nretry: 1\n", "a comment": ": x\n: y", "a megabyte": "x" * 900_000,
}  # fmt: skip


def data_lines(answer: bytes) -> list[Any]:
    """What each event of an answer says. Fails for any line that the server would not write."""
    body = answer.partition(b"\r\n\r\n")[2]
    if b"chunked" in answer.partition(b"\r\n\r\n")[0]:
        body = unchunked(body)
    assert b"\r" not in body
    lines = [line for line in body.split(b"\n") if line and not line.startswith(b":")]
    assert {line.partition(b": ")[0] for line in lines} <= {b"event", b"id", b"retry", b"data"}
    texts = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
    return [json.loads(text) for text in texts if text != b"[DONE]"]


def unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        whole, body = whole + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return whole


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_in_the_state_is_one_line_of_a_stream(besieged: Besieged, name: str) -> None:
    besieged.dispatched(action("board/told", {"text": TEXTS[name]}))
    answer = besieged.ask(request("/stream/state?slices=board"))
    frame = answer[: answer.index(b"\n\n") + 2]  # a second frame may have come already
    [data] = data_lines(frame)
    assert data["slices"]["board"]["text"] == TEXTS[name]
    assert b"evil" not in [line.partition(b": ")[2] for line in frame.split(b"\n") if line.startswith(b"event")]


@pytest.mark.parametrize("name", TEXTS)
async def test_a_text_in_a_chat_is_one_line_of_a_stream(
    besieged: Besieged, upstream: str, http: aiohttp.ClientSession, name: str
) -> None:
    """Asked by a person, and repeated by the model in one token."""
    question = await script(http, upstream, f"{name}?", {"say": TEXTS[name]}, {"finish": "stop"})
    messages = [{"role": "user", "content": f"{TEXTS[name][:1_000]}\n\n{question}"}]
    events = await events_of(besieged, "/api/chat", {"id": name.replace(" ", "-"), "messages": messages})
    assert "".join(event["delta"] for event in events if event["type"] == "text-delta") == TEXTS[name]


async def events_of(server: Besieged, path: str, body: Any) -> list[Any]:
    posted = request(path, body=json.dumps(body).encode())
    answer = await asyncio.to_thread(server.ask, posted, whole=True)
    assert SAID.encode() not in answer
    return data_lines(answer)


# a provider that fails


@pytest.mark.parametrize("name", [name for name in FAULTS if "without an end" not in name])
async def test_what_a_provider_says_of_itself_reaches_nobody(
    besieged: Besieged, upstream: str, http: aiohttp.ClientSession, name: str
) -> None:
    steps, kind, _ = FAULTS[name]
    question = await script(http, upstream, f"{CANARY} {name}", *steps)
    message = {"id": "q", "role": "user", "content": question}
    events = await events_of(besieged, "/ag-ui", {"threadId": name, "runId": "r", "messages": [message]})
    assert any(event["type"] == "RUN_ERROR" and event["code"] == kind for event in events)


# WebSockets

FRAMES: dict[str, tuple[bytes, int]] = {
    "a message that is not UTF-8": (frame(TEXT, b"\xff" + SECRET), 1007),
    "half a character": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "a reserved bit": (b"\xc1\x85\0\0\0\0" + SECRET[:5], 1002),
    "an opcode that is not there": (frame(3, SECRET), 1002),
    "a long ping": (frame(PING, b"x" * 126), 1002),
    "a ping in pieces": (frame(PING, SECRET, fin=False), 1002),
    "a continuation of nothing": (frame(0, SECRET), 1002),
    "a close frame of one byte": (frame(CLOSE, b"x"), 1002),
    "a code that nobody may send": (frame(CLOSE, (1005).to_bytes(2)), 1002),
    "4 MiB and a byte": (frame(TEXT, b" " * (4 * MIB + 1)), 1009),
    "4 MiB in pieces": (frame(TEXT, b" " * MIB, fin=False) + frame(0, b" " * MIB, fin=False) * 3, 1009),
    "a length of 2^63": (b"\x81\xff" + (1 << 63).to_bytes(8) + b"\0\0\0\0", 1009),
}
SOCKETS = ("/ws", "/api/chat")


def opened(server: Besieged, path: str, *lines: str) -> RawSocket:
    return RawSocket(server.port, path, headers=(f"Authorization: Bearer {TOKEN}", *lines))


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_is_wrong_closes_its_socket(besieged: Besieged, path: str, name: str) -> None:
    sent, code = FRAMES[name]
    with opened(besieged, path) as connection:
        assert connection.status == 101
        with contextlib.suppress(ConnectionError):
            connection.connection.sendall(sent)
        try:
            assert connection.closed() == code
        except (ConnectionError, EOFError):
            assert code == 1009  # it may be reset while the rest is still on its way
    besieged.dispatched(action("board/counted", {}))


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize(
    "message", [SECRET, b"[]", b"null", b'{"type":"%s"}' % SECRET, b"[" * 100_000, b'{"__proto__":1}', b"NaN", b"1e400"]
)
def test_a_message_that_is_wrong_is_answered_on_an_open_socket(besieged: Besieged, path: str, message: bytes) -> None:
    with opened(besieged, path) as connection:
        for _ in range(2):
            connection.send(TEXT, message)
            opcode, answer = connection.read()
            assert opcode == TEXT
            assert b"malformed" in answer or b"error" in answer
            while path == "/ws" and b'"stream_end":true' not in answer:
                _, answer = connection.read()
            assert SECRET not in answer


# the log


def test_a_bug_of_the_application_is_logged_without_the_request(besieged: Besieged) -> None:
    names = (b"User-Agent", b"Cookie", b"Referer", b"Last-Event-ID", b"traceparent")
    lines = [b"%s: %s" % (name, SECRET) for name in names]
    answer = besieged.ask(request(f"/broken/{CANARY}?{CANARY}={CANARY}", *lines))
    assert answer_in(answer) == (500, "internal")
    assert SECRET not in answer
