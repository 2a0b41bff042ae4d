"""The server that is measured: its URL, how a worker asks it for a stream, and whether it lets a reader in.

Invariants: what can be known to fail before a thousand readers are opened is found here, and said in a sentence.
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

from statestream.client.address import address
from statestream.core.errors import Malformed, StreamRefused, Unavailable
from statestream.protocol.sse import Decoder, Event

PATIENCE: Final = 10.0
BODY: Final = 500


class Target(Struct, frozen=True, kw_only=True):
    """A server and the slices to follow. `slices` None: every plain slice."""

    url: URL
    slices: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str, slices: str | None, headers: list[str]) -> Target:
        """A user and a password in `url` become a header. Raises Malformed."""
        root, login = address(url)
        try:
            parsed = URL(root)
        except ValueError:
            parsed = URL()
        if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query_string or parsed.fragment:
            raise Malformed(f"expected the server's root like http://127.0.0.1:8000, got {root!r}")
        pairs = login | dict(_header(line) for line in headers)
        return cls(url=parsed, slices=slices, headers=pairs)

    @property
    def stream_url(self) -> URL:
        query = {} if self.slices is None else {"slices": self.slices}
        return self.url.with_path(f"{self.url.path.rstrip('/')}/stream/state").with_query(query)

    @property
    def dispatch_url(self) -> URL:
        return self.url.with_path(f"{self.url.path.rstrip('/')}/dispatch")

    def request(self) -> str:
        """What a reader sends."""
        lines = [
            f"GET {self.stream_url.raw_path_qs} HTTP/1.1",
            f"Host: {self.url.host_port_subcomponent}",
            "Accept: text/event-stream",
            "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join([*lines, "", ""])

    def follows(self, name: str) -> bool:
        """Whether readers get the changes of the slice."""
        if self.slices is None:
            return "/" not in name
        family = f"{name.partition('/')[0]}/*"
        return any(item in ("*", name) or (item == family and "/" in name) for item in self.slices.split(","))

    async def address(self) -> tuple[int, Any]:
        """(family, socket address) of the first that its name leads to. Raises Unavailable."""
        assert self.url.host
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self.url.host, self.url.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unavailable(f"expected an address for {self.url.host}, got none: {error}") from None
        return found[0][0], found[0][4]


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip() or not line.isprintable() or not line.isascii():
        raise Malformed("expected a header like 'Authorization: Bearer …'")
    return name.strip(), value.strip()


async def probe(target: Target, session: aiohttp.ClientSession) -> Event:
    """Opens one reader and closes it again: its first event. Raises StreamRefused, Unavailable."""
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(PATIENCE),
            session.get(target.stream_url, headers=headers, allow_redirects=False) as response,
        ):
            if response.status != 200 or response.content_type != "text/event-stream":
                raise await refusal(f"a stream from {target.stream_url}", response)
            decoder = Decoder()
            async for chunk in response.content.iter_any():
                for event in decoder.feed(chunk):
                    return _first(event, target)
    except TimeoutError:
        raise Unavailable(f"expected a first event from {target.url} within {PATIENCE:.0f} s, got none") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"expected a server at {target.url}, found none: {error}") from None
    raise Unavailable(f"expected a stream from {target.stream_url}, it ended before the first event")


def _first(event: Event, target: Target) -> Event:
    if event.event == "stream.end":
        raise StreamRefused(f"expected a stream, the server ended it at once: {event.data[:BODY]}", reason="ended")
    if event.event != "state.initial":
        raise StreamRefused(f"expected {target.url} to be a statestream server, got other events", reason="answer")
    return event


async def refusal(what: str, response: aiohttp.ClientResponse) -> StreamRefused:
    """Why the server said no, in its own words where it has some."""
    body = await response.content.read(1 << 14)
    said = f"status {response.status}"
    if "Location" in response.headers:
        said += f" to {response.headers['Location']}"
    detail = _detail(body)
    if detail:
        said += f": {detail}"
    return StreamRefused(f"expected {what}, got {said}", reason="refused", status=response.status)


def _detail(body: bytes) -> str:
    try:
        problem = orjson.loads(body)
        return f"{problem['detail']} ({problem['code']})"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = " ".join(body.decode(errors="replace").split())
        return text[:BODY] if text.isprintable() and "<" not in text else ""
