"""What an ASGI server says about a request, as the head of an HTTP/1.1 request that aiohttp parses.

Invariants: pure. Only the ASGI server's framing of the request counts: headers about the connection are replaced by our
own, so the head says truly how the body follows. No byte of a header or a path can end a line. A client's address is
what the ASGI server says it is; what is not an address is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import quote, unquote

from msgspec import Struct

Scope = MutableMapping[str, Any]

OF_THE_CONNECTION: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
    }
)
"""Headers that concern the ASGI server and its client. It has answered an `Expect` and taken apart the body."""
OF_THE_HANDSHAKE: Final = frozenset(
    {b"sec-websocket-extensions", b"sec-websocket-key", b"sec-websocket-version", b"upgrade"}
)
HANDSHAKE: Final = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: c3RhdGVzdHJlYW0tYXNnaQ==\r\n"
)
"""The ASGI server has done the real one. Any key will do."""
WITH_BODY: Final = frozenset({"DELETE", "PATCH", "POST", "PUT"})
"""Methods that may have a body without a header that says so, which HTTP/2 allows."""
SAFE: Final = "/!$&'()*+,;=:@~"
_LINE_ENDS: Final = re.compile(rb"[\r\n\0]")


class Place(Struct, frozen=True, kw_only=True):
    """Where an application is mounted, and the path in it; both percent-encoded."""

    mount: str
    path: str


def place_of(scope: Mapping[str, Any]) -> Place:
    """The mount is `root_path` or, if a framework has shortened `path` only, what `raw_path` has before it."""
    root, path = str(scope.get("root_path", "")).rstrip("/"), str(scope["path"])
    raw = scope.get("raw_path")
    sent = _quoted(path) if raw is None else bytes(raw).partition(b"?")[0].decode("latin-1")
    whole = unquote(sent)
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    elif whole != path:
        path = path if whole.endswith("/") else path.removesuffix("/")  # Litestar appends it
        before = whole.removesuffix(path)
        root = before if before.startswith(root) else root + before
    mount = _quoted(root)
    same = (text for text in (sent.removeprefix(mount), sent) if unquote(text) == path)  # in which %2F is not a slash
    return Place(mount=mount, path=quote(next(same, _quoted(path)), safe=SAFE + "%") or "/")


def _quoted(path: str) -> str:
    return quote(path, safe=SAFE)


def has_body(scope: Mapping[str, Any]) -> bool:
    """Whether the request has a body, as far as its head says."""
    if scope["type"] == "websocket":
        return False
    headers = dict(scope["headers"])
    if b"content-length" in headers:
        return bool(headers[b"content-length"].strip(b"0 "))
    if b"transfer-encoding" in headers:
        return True
    return not scope.get("http_version", "1.1").startswith("1") and scope["method"] in WITH_BODY


def head_of(scope: Mapping[str, Any], path: str) -> bytes:
    """The head of the request. Its body, if it has one, follows in chunks. Raises ValueError."""
    socket = scope["type"] == "websocket"
    dropped = OF_THE_CONNECTION | OF_THE_HANDSHAKE if socket else OF_THE_CONNECTION
    query = bytes(scope.get("query_string", b""))
    target = path.encode("ascii") + (b"?" + query if query else b"")
    nameless = scope.get("http_version") == "1.0" and all(name != b"host" for name, _ in scope["headers"])
    version = b"HTTP/1.0" if nameless else b"HTTP/1.1"  # which must have a Host
    lines = [b" ".join([b"GET" if socket else scope["method"].encode("ascii"), target, version])]
    for name, value in scope["headers"]:
        if name not in dropped and (value or name != b"host"):  # HTTP/2 may have none
            lines.append(b"%b: %b" % (bytes(name), bytes(value)))
    if any(_LINE_ENDS.search(line) for line in lines):
        raise ValueError("the ASGI server passed on a path or a header with a line break in it")
    framing = HANDSHAKE if socket else b"Connection: close\r\n"
    if has_body(scope):
        framing += b"Transfer-Encoding: chunked\r\n"
    return b"\r\n".join([*lines, framing, b""])


def chunk(data: bytes) -> bytes:
    """A part of the body, as it follows a head."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"


def ends_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """The ends of the connection as a transport names them."""
    client, server = scope.get("client"), scope.get("server")
    return {"peername": _address(client), "sockname": _address(server)}


def _address(end: Any) -> tuple[str, int] | None:
    try:
        ip_address(end[0].partition("%")[0])
        return end[0], end[1]
    except (TypeError, ValueError, IndexError, AttributeError):
        return None


def is_secure(scope: Mapping[str, Any]) -> bool:
    """Whether the client's connection is encrypted, as the ASGI server says."""
    return scope.get("scheme") in ("https", "wss")
