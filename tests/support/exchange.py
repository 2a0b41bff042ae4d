"""One request with exactly the given headers, and the head of what a server answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from typing import Any

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}
JSON = {"Content-Type": "application/json"}
UNENDING = ("text/event-stream", "text/plain")


@dataclass
class Answer:
    """The body is empty for streams and WebSockets, which are not read."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def code(self) -> Any:
        """The code of a problem."""
        assert self.headers["Content-Type"] == "application/problem+json"
        return json.loads(self.body)["code"]


def exchange(
    port: int, method: str, path: str, headers: dict[str, str] | list[tuple[str, str]] = (), body: bytes = b""
) -> Answer:
    """Sends the request without any headers of its own, except `Host: localhost` if none is given."""
    given = list(headers.items()) if isinstance(headers, dict) else list(headers)
    if all(name != "Host" for name, _ in given):
        given.append(("Host", "localhost"))
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in given:
        connection.putheader(name, value)
    if body:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body or None)
    answer = connection.getresponse()
    streams = answer.status == 101 or answer.headers.get_content_type() in UNENDING
    received = b"" if streams else answer.read()
    connection.close()
    answer.close()
    return Answer(status=answer.status, headers=answer.headers, body=received)
