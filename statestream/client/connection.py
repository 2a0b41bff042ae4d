"""The task that keeps a replica up to date: it reads, applies, and after a loss resumes where it stopped.

Something on the way may hold streams back. A connection that falls silent is therefore followed by a long poll, whose
answer ends. If it arrives, the client goes on polling until a stream passes again, which a probe finds out meanwhile.

Invariants: only a permanent refusal ends it. After anything else it reconnects, first after the server's own `retry`,
then after twice that, and so on. After a gap it reconnects without a cursor. Every wait has a limit: by the heartbeat
that the server has announced, and until it has announced one, by FIRST_FRAME_SECONDS. A probe applies nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from statestream.client.health import FAILED, HeartbeatMonitor
from statestream.client.refusals import TEMPORARY, beginning_of, explained
from statestream.client.replica import Replica, Update
from statestream.client.token import Token
from statestream.client.trouble import trouble
from statestream.core.errors import Gap, StatestreamError, StreamRefused, TooLarge, Unavailable
from statestream.protocol.sse import Decoder, Event

log = logging.getLogger("statestream")

FIRST_RETRY_MS: Final = 500
MIN_RETRY_MS: Final = 10
"""The minimum delay. Zero doubled is zero, so the client would never pause while a server is down."""
MAX_RETRY_MS: Final = 30_000
MAX_DOUBLINGS: Final = 10
FIRST_FRAME_SECONDS: Final = 15.0
"""How long a new connection may be silent before its first frame, which announces the heartbeat."""
MIN_FIRST_FRAME_SECONDS: Final = 5.0
"""The same if the previous connection had a short heartbeat: a server needs some time for the first frame."""
FIRST_FRAME_TOTAL: Final = 300.0
"""How long the first frame may take in total: a server that only sends comments will never send a state."""
PROBE_SECONDS: Final = 60.0
MAX_PROBE_SECONDS: Final = 900.0
"""How long a client that polls waits before it tries a stream once more: at first, and after many attempts."""
MIN_POLL_SECONDS: Final = 1.0
"""The least time between two polls that bring nothing new. A server answers such a poll after a heartbeat."""
FIRST_EVENTS: Final = ("state.initial", "state.resumed")
BAD_REQUEST: Final = 400
Opened = AbstractAsyncContextManager[tuple[aiohttp.ClientResponse, asyncio.Timeout]]
HEADERS: Final = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}


class Connection:
    """Follows `url` with `query` into `replica`. `on_event` receives each event with the updates that it led to.

    `opened` counts the streams that began. `trouble` is why the last one did not begin, or broke. `on_lost` is called
    with it when a stream that was open is lost.
    """

    def __init__(
        self,
        url: str,
        query: Mapping[str, str],
        replica: Replica,
        monitor: HeartbeatMonitor,
        on_event: Callable[[Event, Sequence[Update]], None],
        token: Token,
    ) -> None:
        self.trouble = "there was no response"
        self.opened = 0
        self.is_open = False
        self.on_lost: Callable[[str], None] | None = None
        self.retry_ms = FIRST_RETRY_MS
        self._url, self._query, self._replica, self._monitor, self._on_event = url, query, replica, monitor, on_event
        self._token = token
        self._failures = 0
        self._began = False  # whether the current connection has had its first frame
        self.polls = False
        """Whether it polls, because streams do not pass."""

    async def run(self, session: aiohttp.ClientSession) -> StatestreamError:
        """Runs until the server refuses permanently, and returns the reason."""
        while True:
            delay = None
            try:
                if self.polls:
                    await self._poll(session)
                    delay = 0.0
                else:
                    await self._follow(session)
                self.trouble = "the server has ended the stream"
                delay = self._requested_delay() if self._replica.end is not None else delay
            except (StreamRefused, TooLarge) as error:
                return error
            except Gap:
                self._replica.forget_position()
            except (Unavailable, aiohttp.ClientError, TimeoutError, OSError) as error:
                self.trouble = str(error) if isinstance(error, Unavailable) else trouble(error)
                if isinstance(error, TimeoutError):  # what was silent may pass in the other way
                    self.polls = not self.polls
            except Exception as error:
                log.exception("following %s failed", self._url)
                return StreamRefused(f"following {self._url} failed: {error!r}", reason="failed")
            if self.is_open and self.on_lost is not None:
                self.on_lost(self.trouble)
            self.is_open = False
            await asyncio.sleep(self._backoff() if delay is None else delay)

    def _requested_delay(self) -> float | None:
        """The seconds to wait that `stream.end` specifies; None if there are none. Raises StreamRefused if it was
        final.
        """
        end = self._replica.end
        if end is None:
            return None
        if end.final:
            raise StreamRefused(f"the server ended the stream for good: {end.reason}", reason=end.reason)
        return None if end.retry is None else end.retry / 1000

    def _backoff(self) -> float:
        """The seconds to wait: the server's `retry`, doubled with each failure in a row, with jitter."""
        # Python's integers do not overflow, however many digits the server sent for `retry`.
        milliseconds = min(MAX_RETRY_MS, max(MIN_RETRY_MS, self.retry_ms) << self._failures)
        self._failures = min(self._failures + 1, MAX_DOUBLINGS)
        return milliseconds / 1000 * random.uniform(1.0, 1.5)  # noqa: S311  # spreads clients, protects nothing

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        """One connection, until it ends, or until the server announces its end."""
        self._replica.end, self._began = None, False
        async with self._streaming(session) as (response, watchdog):
            self.opened, self.is_open = self.opened + 1, True
            await self._read(response, watchdog)

    async def _poll(self, session: aiohttp.ClientSession) -> None:
        """Polls until a stream passes again, or until the server announces its end."""
        await self._poll_once(session)
        probe = asyncio.create_task(self._probe(session))
        try:
            while self._replica.end is None and not probe.done():
                await self._poll_once(session)
            self.polls = not probe.done()
        finally:
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)

    async def _poll_once(self, session: aiohttp.ClientSession) -> None:
        """Applies one answer. It takes a second at least if there is nothing new in it."""
        before, began = self._replica.position, asyncio.get_running_loop().time()
        self._replica.end, self._began = None, False
        query = {**self._query, "live": "long-poll"} | ({"after": before} if before else {})
        try:
            async with self._opened(session, query, HEADERS, self._poll_limit()) as (response, watchdog):
                self.opened, self.is_open = self.opened + (not self.is_open), True
                await self._read(response, watchdog)
        except StreamRefused as error:
            if error.status != BAD_REQUEST:
                raise
            self.polls = False
            raise Unavailable(f"nothing arrives from {self._url}, and it does not know long polling") from None
        if self._replica.position == before and self._replica.end is None:
            await asyncio.sleep(began + MIN_POLL_SECONDS - asyncio.get_running_loop().time())

    async def _probe(self, session: aiohttp.ClientSession) -> None:
        """Returns once a stream passes: once its first frame arrives in time, which is all that is read of it."""
        pause = PROBE_SECONDS
        while not await self._passes(session):
            await asyncio.sleep(pause * random.uniform(1.0, 1.5))  # noqa: S311  # spreads clients, protects nothing
            pause = min(MAX_PROBE_SECONDS, 2 * pause)

    async def _passes(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with self._streaming(session) as (response, _):
                decoder = Decoder()
                async for chunk in response.content.iter_any():
                    if any(event.event in FIRST_EVENTS for event in decoder.feed(chunk)):
                        return True
        except (StatestreamError, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("streams do not pass yet: %s", error)
        return False

    def _streaming(self, session: aiohttp.ClientSession) -> Opened:
        cursor = {"Last-Event-ID": self._replica.position} if self._replica.position else {}
        return self._opened(session, self._query, {**HEADERS, **cursor}, self._first_frame_limit())

    @asynccontextmanager
    async def _opened(
        self, session: aiohttp.ClientSession, query: Mapping[str, str], headers: Mapping[str, str], limit: float
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, asyncio.Timeout]]:
        """A response to read frames from, and the timeout that each of its chunks puts off."""
        url = URL(f"{self._url}/stream/state").with_query(query)
        async with (
            asyncio.timeout(limit) as watchdog,
            self._token.request(session, "GET", url, headers=headers, new_connection=True) as response,
        ):
            await self._verify(response)
            yield response, watchdog

    async def _read(self, response: aiohttp.ClientResponse, watchdog: asyncio.Timeout) -> None:
        """Applies what arrives."""
        loop, first = asyncio.get_running_loop(), self._first_frame_limit()
        last = loop.time() + FIRST_FRAME_TOTAL
        watchdog.reschedule(min(last, loop.time() + first))
        decoder = Decoder(last_id=self._replica.position or "")
        async for chunk in response.content.iter_any():
            events = decoder.feed(chunk)
            if decoder.retry is not None:
                self.retry_ms = decoder.retry
            if not all(map(self._apply, events)):
                return
            watchdog.reschedule(self._deadline(loop.time(), first, last))

    def _first_frame_limit(self) -> float:
        """The seconds that a new connection may be silent, by the heartbeat of the previous connection if known."""
        if self._replica.heartbeat_ms is None:
            return FIRST_FRAME_SECONDS
        return min(FIRST_FRAME_SECONDS, max(MIN_FIRST_FRAME_SECONDS, FAILED * self._replica.heartbeat_ms / 1000))

    def _poll_limit(self) -> float:
        """The seconds that a poll may be silent: a server answers within a heartbeat, but may be slow."""
        if self._replica.heartbeat_ms is None:
            return FIRST_FRAME_SECONDS
        return MIN_FIRST_FRAME_SECONDS + self._replica.heartbeat_ms / 1000

    def _deadline(self, now: float, first: float, last: float) -> float:
        """When the connection counts as dead if nothing more arrives."""
        if self._replica.heartbeat_ms is None:
            return min(last, now + first)
        heartbeat = self._replica.heartbeat_ms / 1000
        self._monitor.received(heartbeat)
        return now + FAILED * heartbeat if self._began else min(last, now + max(first, FAILED * heartbeat))

    def _apply(self, event: Event) -> bool:
        """Returns whether the stream continues."""
        updates = self._replica.apply(event)
        self._began = self._began or event.event in FIRST_EVENTS
        if self._replica.position is not None:
            self._failures = 0  # not earlier: a server that accepts and then breaks must not be hammered
        self._on_event(event, updates)
        return self._replica.end is None

    async def _verify(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200 and response.content_type == "text/event-stream":
            return
        if response.status >= 500 or response.status in TEMPORARY:
            raise Unavailable(f"expected a stream from {self._url}, got status {response.status}; trying again")
        reason, detail = explained(await beginning_of(response))
        raise StreamRefused(
            f"expected a stream from {self._url}, got status {response.status}: {detail}",
            reason=reason,
            status=response.status,
        )
