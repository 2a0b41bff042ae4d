"""The task that keeps a replica up to date: it reads, applies, and after a loss resumes where it stopped.

Invariants: only a permanent refusal ends it. After anything else it reconnects, first after the server's own `retry`,
then after twice that, and so on. After a gap it reconnects without a cursor. Every wait has a limit: by the heartbeat
that the server has announced, and until it has announced one, by FIRST_FRAME_SECONDS.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
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
FIRST_EVENTS: Final = ("state.initial", "state.resumed")
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

    async def run(self, session: aiohttp.ClientSession) -> StatestreamError:
        """Runs until the server refuses permanently, and returns the reason."""
        while True:
            delay = None
            try:
                await self._follow(session)
                self.trouble = "the server has ended the stream"
                delay = self._requested_delay()
            except (StreamRefused, TooLarge) as error:
                return error
            except Gap:
                self._replica.forget_position()
            except (Unavailable, aiohttp.ClientError, TimeoutError, OSError) as error:
                self.trouble = str(error) if isinstance(error, Unavailable) else trouble(error)
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
        headers = dict(HEADERS)
        if self._replica.position:
            headers["Last-Event-ID"] = self._replica.position
        self._replica.end, self._began = None, False
        url = URL(f"{self._url}/stream/state").with_query(self._query)
        loop, first = asyncio.get_running_loop(), self._first_frame_limit()
        last = loop.time() + FIRST_FRAME_TOTAL
        async with (
            asyncio.timeout(first) as watchdog,
            self._token.request(session, "GET", url, headers=headers, new_connection=True) as response,
        ):
            watchdog.reschedule(min(last, loop.time() + first))
            await self._verify(response)
            self.opened, self.is_open = self.opened + 1, True
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
