"""A server, as the command line names it: its URL, the slices to follow, the headers to send.

Invariants: a URL with credentials is never kept; they become a header. What can fail before the real work starts is
found by `probe`, and explained in one sentence.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import orjson
from msgspec import Struct, field
from yarl import URL

from statestream.client import redirects
from statestream.client.address import address
from statestream.client.connection import FIRST_FRAME_TOTAL, HEADERS
from statestream.client.refusals import beginning_of
from statestream.client.replica import Replica
from statestream.client.selection import selection_of
from statestream.client.trouble import trouble
from statestream.core.errors import Gap, Malformed, StreamRefused, Unavailable
from statestream.protocol.sse import Decoder, Event

PROBE_SECONDS: Final = 10.0
"""How long a server may be silent before its first event."""
SHOWN_CHARACTERS: Final = 500
"""How much of an unexpected response an error message may show."""


class Target(Struct, frozen=True, kw_only=True):
    """A server and the slices to follow. `slices` None: every plain slice."""

    url: URL
    slices: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str, slices: str | None, headers: list[str]) -> Target:
        """A user and a password in `url` become a header. Raises Malformed."""
        root, credentials = address(url)
        try:
            parsed = URL(root)
        except ValueError:
            parsed = URL()
        if not parsed.host:
            raise Malformed("expected the root URL of a server, such as http://127.0.0.1:8000, got one without a host")
        pairs = credentials | dict(_header(line) for line in headers)
        return cls(url=parsed, slices=slices, headers=pairs)

    @property
    def stream_url(self) -> URL:
        query = {} if self.slices is None else {"slices": self.slices}
        return self.route("stream/state").with_query(query)

    def route(self, path: str) -> URL:
        """The URL of a route below the root."""
        return self.url.with_path(f"{self.url.path.rstrip('/')}/{path}")

    def stream_request(self) -> str:
        """The bytes of an HTTP/1.1 request for the state stream."""
        lines = [
            f"GET {self.stream_url.raw_path_qs} HTTP/1.1",
            f"Host: {self.url.host_port_subcomponent}",
            "Accept: text/event-stream",
            "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join([*lines, "", ""])

    def follows(self, name: str) -> bool:
        """Whether the stream contains the changes of the slice."""
        if self.slices is None:
            return "/" not in name
        return selection_of(self.slices.split(",")).matches(name)

    async def resolve(self) -> tuple[int, Any]:
        """Returns (family, socket address), the first that the host name resolves to. Raises Unavailable."""
        assert self.url.host
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self.url.host, self.url.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unavailable(f"cannot resolve the host {self.url.host}: {trouble(error)}") from None
        return found[0][0], found[0][4]


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip() or not line.isprintable() or not line.isascii():
        raise Malformed("expected a header such as 'Authorization: Bearer …': a name, a colon and a value, in ASCII")
    return name.strip(), value.strip()


async def probe(target: Target, session: aiohttp.ClientSession) -> Event:
    """Opens one stream and closes it again. Returns its first event. Raises StreamRefused, Unavailable."""
    loop = asyncio.get_running_loop()
    headers, last = {**HEADERS, "Accept-Encoding": "identity"}, loop.time() + FIRST_FRAME_TOTAL
    try:
        async with (
            asyncio.timeout(PROBE_SECONDS) as silence,
            redirects.request(session, "GET", target.stream_url, headers=headers) as response,
        ):
            if response.status != 200 or response.content_type != "text/event-stream":
                raise await refusal(f"a stream from {target.stream_url}", response)
            decoder = Decoder()
            async for chunk in response.content.iter_any():
                for event in decoder.feed(chunk):
                    return _first(event, target)
                silence.reschedule(min(last, loop.time() + PROBE_SECONDS))
    except TimeoutError:
        raise Unavailable(f"no event from {target.url}: it was silent for {PROBE_SECONDS:.0f} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"expected a server at {target.url}, found none: {trouble(error)}") from None
    raise Unavailable(f"the stream from {target.stream_url} ended before its first event")


def _first(event: Event, target: Target) -> Event:
    if event.event == "stream.end":
        detail = event.data[:SHOWN_CHARACTERS]
        raise StreamRefused(f"the server ended the stream before its first state: {detail}", reason="ended")
    if event.event != "state.initial":
        raise StreamRefused(f"expected a statestream server at {target.url}, got other events", reason="answer")
    return event


def announced_heartbeat(first: Event) -> float:
    """The seconds that a stream may be silent, according to its first event. Raises StreamRefused."""
    replica = Replica()
    try:
        replica.apply(first)
    except Gap as error:
        raise StreamRefused(f"the first state cannot be used: {error}", reason="answer") from None
    assert replica.heartbeat_ms is not None
    return replica.heartbeat_ms / 1000


async def refusal(what: str, response: aiohttp.ClientResponse) -> StreamRefused:
    """The error for a response that is not `what` was asked for, with the server's own explanation if there is one."""
    body = await beginning_of(response)
    got = f"status {response.status}"
    if "Location" in response.headers:
        got += f" to {response.headers['Location']}"
    detail = _detail(body)
    if detail:
        got += f": {detail}"
    return StreamRefused(f"expected {what}, got {got}", reason="refused", status=response.status)


def _detail(body: bytes) -> str:
    try:
        problem = orjson.loads(body)
        return f"{problem['detail']} ({problem['code']})"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = " ".join(body.decode(errors="replace").split())
        return text[:SHOWN_CHARACTERS] if text.isprintable() and "<" not in text else ""  # a page explains nothing
