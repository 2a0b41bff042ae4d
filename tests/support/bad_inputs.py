"""What nobody should send to a server, row by row, and the answer that each of them has to get.

A row is a whole conversation of one connection as bytes. Its answer is a status with the code of the problem, or for a
stream the reason of its first frame. Most rows carry the canary, which no log may contain.

Invariants: no library makes these bytes, because none would send them. `@position@`, `@forked@` and `@trimmed@` stand
for positions that are only known once the server runs.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import zlib
from typing import Any, NamedTuple

CANARY = "canary-5d1f-canary"
SECRET = CANARY.encode()
TOKEN = "token-of-ada-0123456789-0123456789-abcdef"
OTHER_TOKEN = "token-of-ben-0123456789-0123456789-abcdef"
ALLOWED = b"Origin: https://app.example.com"
MIB = 1 << 20


class Row(NamedTuple):
    """`answer`: the status, and the code or the reason that goes with it. `parts`: sent one after another."""

    name: str
    answer: tuple[int, str]
    parts: tuple[bytes, ...]


def request(
    target: str | bytes, *lines: bytes, body: bytes | None = None, method: str = "", login: bool = True
) -> bytes:
    """A request of somebody who is logged in, on a connection that ends after the answer."""
    where = target.encode() if isinstance(target, str) else target
    verb = method or ("GET" if body is None else "POST")
    head = [b"%s %s HTTP/1.1" % (verb.encode(), where), b"Host: localhost", b"Connection: close", *lines]
    head += [b"Authorization: Bearer " + TOKEN.encode()] if login else []
    if body is not None:
        named = [line.partition(b":")[0].lower() for line in lines]
        head += [] if b"content-type" in named else [b"Content-Type: application/json"]
        chunked = b"transfer-encoding" in named or b"content-length" in named
        head += [] if chunked else [b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*head, b"", body or b""])


def action(type: str = "board/told", payload: Any = None, **more: Any) -> bytes:
    return json.dumps({"type": type, "payload": {"text": CANARY} if payload is None else payload, **more}).encode()


def filed(value: str | bytes) -> bytes:
    """An action with this text as its value, whatever it is."""
    text = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return b'{"type":"board/filed","payload":{"value":%s}}' % text


def bad(name: str, *parts: bytes, answer: tuple[int, str] = (400, "malformed")) -> Row:
    return Row(name, answer, parts)


def posted(name: str, body: bytes, *lines: bytes, answer: tuple[int, str] = (400, "malformed")) -> Row:
    return Row(name, answer, (request("/dispatch", *lines, body=body),))


def bomb(kind: str) -> bytes:
    """20 MiB of blanks, compressed."""
    plain = b" " * (20 * MIB) + action()
    return gzip.compress(plain) if kind == "gzip" else zlib.compress(plain)


POST = b"POST /dispatch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n" % TOKEN.encode()
CHUNKED = b"Transfer-Encoding: chunked"
ONE_BYTE_CHUNKS = b"1\r\n \r\n" * 100_000 + b"0\r\n\r\n"
MEDIA = b"Content-Type: "
NO_JSON = (415, "unsupported_media_type")
UNKNOWN = (401, "unauthenticated")
FOREIGN_PAGE = (403, "forbidden_origin")

HTTP = [
    bad("no HTTP", SECRET + b"\r\n\r\n"),
    bad("TLS", b"\x16\x03\x01\x02\x00\x01" + SECRET),
    bad("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    bad("HTTP/0.9", b"GET /state?t=%s\r\n\r\n" % SECRET),
    bad("a method that nobody knows", b"CANARY /state?t=%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % SECRET),
    bad("a length and chunks", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECRET),
    bad("two lengths", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + SECRET),
    bad("a length with a plus", POST + b"Content-Length: +5\r\n\r\n" + SECRET),
    bad("a negative length", POST + b"Content-Length: -5\r\n\r\n" + SECRET),
    bad("a negative chunk", request("/dispatch", CHUNKED, body=b"-5\r\n" + SECRET + b"\r\n")),
    bad("a chunk that has no size", request("/dispatch", CHUNKED, body=SECRET + b"\r\n")),
    bad("chunks by another name", request("/dispatch", b"Transfer-Encoding: xchunked", body=SECRET)),
    bad("two hosts", b"GET /state HTTP/1.1\r\nHost: localhost\r\nHost: %s\r\n\r\n" % SECRET),
    bad("no host", b"GET /state?t=%s HTTP/1.1\r\n\r\n" % SECRET),
    bad("129 headers", request("/state", *[b"X-%d: %s" % (number, SECRET) for number in range(129)])),
    bad("a header of 9 kB", request("/state", b"Cookie: %s" % (SECRET * 500))),
    bad("a target of 9 kB", request(b"/state?t=" + SECRET * 500)),
    bad("a bare LF", b"GET /state HTTP/1.1\nHost: localhost\nCookie: %s\n\n" % SECRET),
    bad("a folded header", request("/state", b"Cookie: a\r\n " + SECRET)),
    bad("a NUL in a header", request("/state", b"Cookie: a\0" + SECRET)),
    bad("a NUL in the target", request(b"/state?t=%s\0" % SECRET)),
    bad("a blank in a name", request("/state", b"Cookie : " + SECRET)),
    bad("an expectation", request("/dispatch", b"Expect: " + SECRET, body=action())),
    bad("a body that is no gzip", request("/dispatch", b"Content-Encoding: gzip", body=SECRET)),
    bad("a body that ends early", request("/dispatch", b"Content-Encoding: gzip", body=gzip.compress(action())[:-4])),
    posted("a body above the limit", b" " * MIB + b"{", answer=(413, "too_large")),
    bad("chunks above the limit",
        request("/dispatch", CHUNKED, body=b"100001\r\n" + b" " * (MIB + 1) + b"\r\n0\r\n\r\n"),
        answer=(413, "too_large")),
    bad("100,000 chunks of a byte", request("/dispatch", CHUNKED, body=ONE_BYTE_CHUNKS)),
    posted("a bomb of gzip", bomb("gzip"), b"Content-Encoding: gzip", answer=(413, "too_large")),
    posted("a bomb of deflate", bomb("deflate"), b"Content-Encoding: deflate", answer=(413, "too_large")),
    *(posted(f"a body in {kind}", SECRET, b"Content-Encoding: " + kind.encode(), answer=NO_JSON)
      for kind in ("br", "zstd", "compress", "gzip, gzip", CANARY)),
    *(posted(f"a body of the type {kind.decode()!r}", action(), MEDIA + kind, answer=NO_JSON)
      for kind in (b"", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=a", SECRET,
                   b"application/json; charset=nope", b"application/json; charset=utf-7", b"application/jsonp")),
    posted("two types", action(), MEDIA + b"text/plain", MEDIA + b"application/json"),
    bad("HEAD of a stream", request("/stream/state?slices=board", method="HEAD"), answer=(405, "")),
    *(bad(f"{method} of a stream", request("/stream/state?slices=board", method=method),
          answer=(405, "method_not_allowed")) for method in ("OPTIONS", "TRACE", "PUT", "DELETE")),
    bad("OPTIONS of everything", request("*", method="OPTIONS"), answer=(404, "not_found")),
    bad("CONNECT", request(b"%s.example:443" % SECRET, method="CONNECT"), answer=(421, "misdirected_request")),
    bad("CONNECT to the server", request(b"localhost:443", method="CONNECT"), answer=(404, "not_found")),
    bad("an absolute target", request(b"http://%s/state" % SECRET), answer=(421, "misdirected_request")),
    bad("an absolute target that is none", request(b"http://[::%s/state" % SECRET)),
    bad("a target with two slashes", request(b"//%s/state" % SECRET), answer=(404, "not_found")),
    bad("a path that is not there", request(f"/{CANARY}?{CANARY}"), answer=(404, "not_found")),
    bad("a parameter that is not there", request(f"/state?{CANARY}={CANARY}")),
    bad("a token in the query", request(f"/state?access_token={CANARY}")),
    bad("HTTP/1.0 that stays", b"GET /state?slices=board HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /state?slices=board HTTP/1.0\r\nCookie: %s\r\n\r\n" % SECRET, answer=UNKNOWN),
]  # fmt: skip


def cursor(name: str, value: bytes, reason: str = "invalid") -> Row:
    return Row(f"the cursor {name}", (200, reason), (request("/stream/state", b"Last-Event-ID: " + value),))


CURSORS = [
    cursor("that is empty", b"", "start"),
    *(cursor(repr(text), text.encode()) for text in
      ("0", "-1", "now", "00", "1e3", "+1", "²", "😀", "1.", ".a", "1..a", "01.abc", "1.a b", "0.abc", "1.é", CANARY)),
    cursor("2^53", b"9007199254740992.abc"),
    cursor("2^64", b"18446744073709551616.abc"),
    cursor("10^400", b"1%s.abc" % (b"0" * 400)),
    cursor("of 8 kB", b"1." + b"a" * 8_000),
    cursor("with a CR that is escaped", b"1.abc%0D"),
    cursor("of another history", b"@forked@", "forked"),
    cursor("of the future", b"9007199254740991.abc", "forked"),
    cursor("that was trimmed", b"@trimmed@", "expired"),
    cursor("of another slice", b"@position@", "resumed"),
    bad("a cursor with a NUL", request("/stream/state", b"Last-Event-ID: 1.a\0" + SECRET)),
    bad("a cursor with a CR", request("/stream/state", b"Last-Event-ID: 1.a\r" + SECRET)),
    bad("two cursors", request("/stream/state", b"Last-Event-ID: @position@", b"Last-Event-ID: " + SECRET),
        answer=(200, "resumed")),
    bad("a cursor in the query", request(f"/stream/state?after={CANARY}"), answer=(200, "invalid")),
    bad("a header and a query that disagree", request(f"/stream/state?after={CANARY}", b"Last-Event-ID: @position@"),
        answer=(200, "resumed")),
    bad("a position in the past that is none", request(f"/state?at={CANARY}")),
    bad("a position of another history", request("/state?at=@forked@"), answer=(410, "position_forked")),
    bad("a position that was trimmed", request("/history?after=@trimmed@"), answer=(410, "position_expired")),
]  # fmt: skip

JSON = [
    *(posted(f"JSON that is {depth} deep", filed("[" * (depth - 2) + "]" * (depth - 2))) for depth in
      (65, 254, 1024, 100_000)),
    *(posted(f"JSON with {number[:30]}", filed(number)) for number in
      ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", str(2**53), str(2**63), str(2**64), "9" * 5_000, "01", "+1",
       "1.", ".5", "0x1", "1_000")),
    posted("JSON with a lone surrogate, escaped", filed('"\\ud800"')),
    posted("JSON with a lone surrogate, encoded", filed(b'"\xed\xa0\x80"')),
    posted("JSON with the wrong half of a pair", filed('"\\ude00\\ud83d"')),
    posted("JSON with an overlong slash", filed(b'"\xc0\xaf"')),
    posted("JSON with a BOM", b"\xef\xbb\xbf" + action()),
    posted("JSON in UTF-16", action().decode().encode("utf-16")),
    posted("JSON with a key twice", filed(f'{{"{CANARY}":1,"{CANARY}":2}}')),
    posted("JSON with __proto__", filed(f'{{"__proto__":"{CANARY}"}}')),
    posted("JSON with __proto__, escaped", filed('{"\\u005f_proto__":{"isAdmin":true}}')),
    posted("JSON with constructor/prototype", filed('{"constructor":{"prototype":{"isAdmin":true}}}')),
    posted("JSON with 60,000 keys", filed(b"{%s}" % b",".join(b'"%d":0' % key for key in range(60_000)))),
    posted("JSON with a million keys", filed(b"{%s}" % b",".join([b'"0":0'] * 1_000_000)),  # nobody looks at them
           answer=(413, "too_large")),
    *(posted(f"JSON that is {body[:20]!r}", body) for body in
      (b"", b"null", b"[]", b'"%s"' % SECRET, b"1", b"{", b"{}x", b"nul", action() + SECRET, SECRET, b"\0", b"'a'")),
    posted("JSON with a NUL", filed(b'"\0"')),
    posted("JSON with a line break in a text", filed(b'"a\nb"')),
]  # fmt: skip

FINE = [
    *(posted(f"JSON with {value[:30]}", filed(value), answer=(200, "")) for value in
      ("-0", "1.0", "-0.0", "1e-400", str(2**53 - 1), '"\\ud83d\\ude00"', '{"constructor":1}', '{"prototype":1}',
       '{"":1}', '{"/":1,"~":2,"~2":3,"~01":4}', '"\\u0000"', '{"%s":1}' % ("k" * 900_000))),
    posted("JSON that is 64 deep", filed("[" * 62 + "]" * 62), answer=(200, "")),
]  # fmt: skip
"""What looks wrong, and is within the limits of the protocol."""

ACTIONS = [
    *(posted(f"the id {id[:20]!r} of {len(id)}", action(id=id)) for id in
      ("", "a b", "x" * 129, "x" * 201, "a\0", f"{CANARY}!", "é")),
    posted("an id that is a number", action(id=7)),
    posted("an action that is not there", action(f"board/{CANARY}"), answer=(404, "unknown_action")),
    posted("an action of no slice", action(CANARY), answer=(404, "unknown_action")),
    posted("an action of a slice that is closed", action("salary/paid", {"who": CANARY, "amount": 1}),
           answer=(404, "unknown_action")),
    posted("a slice that is not there", action(expect={CANARY.replace("-", "_"): 1}), answer=(404, "unknown_slice")),
    posted("an expectation that is old", action(expect={"board": 1}), answer=(409, "version_conflict")),
    posted("a payload of the wrong type", action("board/counted", {"by": CANARY}), answer=(422, "invalid_payload")),
    posted("a payload with more in it", action("board/counted", {CANARY: 1}), answer=(422, "invalid_payload")),
    posted("no payload", b'{"type":"board/counted"}'),
    posted("a member that is not there", action(**{CANARY: 1})),
    posted("an author", action(actor=CANARY)),
    posted("no key", action("note/written")),
    posted("a key for a plain slice", action(key=CANARY)),
    *(posted(f"the key {key[:20]!r}", action("note/written", key=key)) for key in
      ("", "a/b", "%2f", "k" * 129, f"{CANARY}\n", "é", "\0")),
    posted("a key that is a traversal", action("note/written", key="../../" + CANARY)),
    posted("no actions", b'{"actions":[]}'),
    posted("1,001 actions", b'{"actions":[%s]}' % b",".join([action("board/counted", {})] * 1_001)),
    bad("a slice that is closed", request("/state?slices=salary"), answer=(404, "unknown_slice")),
    bad("a slice that nobody declared", request("/stream/state?slices=celery"), answer=(404, "unknown_slice")),
    bad("a name that is none", request(f"/state?slices=Bad,{CANARY}")),
    bad("1,001 slices", request("/state?slices=" + ",".join(f"note/{n}" for n in range(1_001)))),
]  # fmt: skip


def as_(token: str, target: str = "/state?slices=board") -> bytes:
    return request(target, b"Authorization: Bearer " + token.encode(), login=False)


LOGINS = [
    bad("nobody", request("/state?slices=board", login=False), answer=UNKNOWN),
    bad("nobody who dispatches", request("/dispatch", body=action(), login=False), answer=UNKNOWN),
    *(bad(f"the credentials {line[:60]!r}", request("/state?slices=board", line, login=False), answer=UNKNOWN)
      for line in (
          b"Authorization: Bearer " + SECRET, b"Authorization: " + SECRET, b"Authorization: Basic " + SECRET,
          b"Authorization: Bearer", b"Authorization: Bearer " + SECRET * 400, b"X-API-Key: " + SECRET,
          b"X-API-Key: %s\r\nAuthorization: Bearer %s" % (SECRET, TOKEN.encode()),
          b"Authorization: Bearer %s\r\nauthorization: Bearer %s" % (TOKEN.encode(), SECRET),
      )),
    bad("a cookie alone", request("/state?slices=board", b"Cookie: session=" + SECRET, login=False),
        answer=UNKNOWN),
]  # fmt: skip

FOREIGN = [
    *(bad(f"a page of {origin.decode()!r}",
          request("/dispatch", b"Origin: " + origin, b"Cookie: " + SECRET, body=action()), answer=FOREIGN_PAGE)
      for origin in (b"https://evil.example", b"null", b"https://app.example.com.evil.example", b"*", SECRET,
                     b"https://app.example.com/", b"https://app.example.com:444", b"http://app.example.com",
                     b"HTTPS://APP.EXAMPLE.COM", b"https://%s.example" % SECRET)),
    bad("two origins", request("/dispatch", ALLOWED, b"Origin: https://evil.example", body=action()),
        answer=FOREIGN_PAGE),
    bad("another site", request("/dispatch", b"Sec-Fetch-Site: cross-site", body=action()),
        answer=FOREIGN_PAGE),
    bad("a preflight of another site", request("/dispatch", b"Origin: https://" + SECRET,
        b"Access-Control-Request-Method: POST", method="OPTIONS"), answer=FOREIGN_PAGE),
    *(bad(f"the host {host.decode()!r}", b"GET /state HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host,
          answer=(421, "misdirected_request"))
      for host in (SECRET, b"evil.example", b"localhost.evil.example", b"127.0.0.1.evil.example", b"0.0.0.0",
                   b"[::2]")),
    *(bad(f"a page of {origin.decode()!r} that opens a WebSocket",
          request("/ws", b"Origin: " + origin, b"Upgrade: websocket", b"Sec-WebSocket-Version: 13",
                  b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="), answer=FOREIGN_PAGE)
      for origin in (b"https://evil.example", b"null", b"https://app.example.com.evil.example")),
]  # fmt: skip

FILES = [
    bad(f"the file {path!r}", request(path), answer=(404, "not_found"))
    for path in ("/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..\\..\\etc\\passwd", "/../../etc/passwd",
                 "/js/statestream.js/../../pyproject.toml", "/.git/config", "/.env", f"/js/statestream.js%00{CANARY}",
                 "/js/statestream.js/", f"/js/{CANARY}", "/js/..%2f..%2fpyproject.toml",
                 f"/{CANARY}%0d%0aX: 1".replace(" ", "%20"))
]  # fmt: skip


def in_chat(name: str, target: str, body: Any, answer: tuple[int, str] = (400, "malformed")) -> Row:
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Row(name, answer, (request(target, body=encoded),))


CHATS = [
    in_chat("an id for a chat", "/api/chats", {"id": CANARY}),
    in_chat("a question that is a list", "/ag-ui", []),
    in_chat("a run without messages", "/ag-ui", {"threadId": CANARY, "runId": "r"}),
    in_chat("a run with a text as messages", "/ag-ui", {"threadId": CANARY, "runId": "r", "messages": CANARY}),
    *(in_chat(f"{what} for the AI SDK", "/api/chat", body, (400, "")) for what, body in {
        "no question": {"id": CANARY}, "a text as messages": {"id": CANARY, "messages": CANARY},
        "no text": {"id": CANARY, "messages": [{"role": "user", "parts": [{"type": "text", "text": 7}]}]},
        "a long id": {"id": CANARY * 20, "messages": [{"role": "user", "content": "Hi"}]},
        "nothing": b"", "half of something": b'{"id": "' + SECRET,
    }.items()),
    bad("a chat that is not there", request(f"/api/chats/{CANARY}"), answer=(404, "not_found")),
    bad("a chat whose id is too long", request(f"/api/chats/{CANARY * 20}")),
    in_chat("a branch of nothing", f"/api/chats/{CANARY}/branch", {"message": CANARY}, (404, "not_found")),
    in_chat("a branch without a message", f"/api/chats/{CANARY}/branch", {CANARY: 1}),
    in_chat("a plain question in no chat", f"/api/chats/{CANARY}/stream", {"messages": [{"role": "user",
            "content": CANARY}]}, (404, "not_found")),
]  # fmt: skip


def uploaded(name: str, answer: tuple[int, str], *lines: bytes, body: bytes = SECRET, query: str = "") -> Row:
    """An upload to a chat that does not exist, unless the answer says that this was not even looked at."""
    return Row(name, answer, (request(f"/api/chats/{CANARY}/files{query}", *lines, body=body),))


STORED = [
    uploaded("an upload to no chat", (404, "not_found"), b"Content-Type: image/png"),
    uploaded("an upload to no chat, in a form", (404, "not_found"), b"Content-Type: multipart/form-data; boundary=x"),
    uploaded("an upload of a foreign page", (403, "forbidden_origin"), b"Origin: https://evil.example"),
    uploaded("an upload with an unknown parameter", (400, "malformed"), query=f"?name={CANARY}"),
    bad("a file of no chat", request(f"/api/chats/{CANARY}/files/{'a' * 32}"), answer=(404, "not_found")),
    *(bad(f"a file called {name}", request(f"/api/chats/{CANARY}/files/{name}"), answer=(404, "not_found"))
      for name in (CANARY, "..%2f..%2fetc%2fpasswd", "%00", "A" * 32)),
    bad("a range of no file", request(f"/api/chats/{CANARY}/files/{'a' * 32}", b"Range: bytes=" + b"0-," * 2_000),
        answer=(404, "not_found")),
]  # fmt: skip

ROWS = [*HTTP, *CURSORS, *JSON, *FINE, *ACTIONS, *LOGINS, *FOREIGN, *FILES, *CHATS, *STORED]


def told(port: int, parts: tuple[bytes, ...], *, whole: bool = False) -> bytes:
    """The answer to these bytes: all of it, or, if it is a stream and not `whole`, the head and the first frame."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except ConnectionError:  # it has answered, and does not read the rest
                break
        received = b""
        while whole or not _first_frame(received):
            try:
                data = connection.recv(1 << 16)
            except ConnectionError:
                break
            if not data:
                break
            received += data
    return received


def _first_frame(received: bytes) -> bool:
    head, _, body = received.partition(b"\r\n\r\n")
    return b"text/event-stream" in head and b"\n\n" in body


def answer_in(received: bytes) -> tuple[int, str]:
    """The status, and the code of a problem or the reason of a first frame."""
    head, _, body = received.partition(b"\r\n\r\n")
    if b"text/event-stream" in head:
        found = re.search(rb'"reason":"(\w+)"', body) or re.search(rb"event: state\.(\w+)", body)
    else:
        found = re.search(rb'"code":"(\w+)"', body)
    return int(head.split()[1]), found[1].decode() if found else ""
