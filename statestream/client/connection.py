"""The one task that keeps a replica true: it reads, applies, and comes back after a loss where it left off.

Invariants: permanent refusals end it, everything else is tried again: with the server's own `retry`, doubled with each
failure in a row. After a gap it starts again without a cursor.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import aiohttp

from statestream.client.dispatching import detail_of
from statestream.client.health import FAILED, Pulse
from statestream.client.replica import Replica, Update
from statestream.core.errors import Gap, StatestreamError, StreamRefused, TooLarge, Unavailable
from statestream.protocol.sse import Decoder, Event

log = logging.getLogger("statestream")

FIRST_RETRY_MS: Final = 500
MAX_RETRY_MS: Final = 30_000
FIRST_SECONDS: Final = 30.0
"""Until when a stream's first frame must have come."""
TEMPORARY: Final = (408, 425, 429)


class Connection:
    """Follows `url` with `query` into `replica`. `heard` gets each event with what it changed.

    `opened` counts the streams that began; `trouble` says why the last one did not, or what broke it.
    """

    def __init__(
        self,
        url: str,
        query: Mapping[str, str],
        replica: Replica,
        pulse: Pulse,
        heard: Callable[[Event, Sequence[Update]], None],
    ) -> None:
        self.trouble = "nothing was answered"
        self.opened = 0
        self.is_open = False
        self.retry_ms = FIRST_RETRY_MS
        self._url, self._query, self._replica, self._pulse, self._heard = url, query, replica, pulse, heard
        self._attempt = 0

    async def run(self, session: aiohttp.ClientSession) -> StatestreamError:
        """Until the server refuses for good: then why."""
        while True:
            delay = None
            try:
                await self._follow(session)
                delay = self._pause()
            except (StreamRefused, TooLarge) as error:
                return error
            except Gap:
                self._replica.forget_position()
            except (Unavailable, aiohttp.ClientError, TimeoutError, OSError) as error:
                # then come back where we left off
                self.trouble = str(error) or (
                    "nothing came in time" if isinstance(error, TimeoutError) else repr(error)
                )
            except Exception as error:
                log.exception("following %s failed", self._url)
                return StreamRefused(f"following {self._url} failed: {error!r}", reason="failed")
            self.is_open = False
            await asyncio.sleep(self._backoff() if delay is None else delay)

    def _pause(self) -> float | None:
        """What the server said when it ended the stream on purpose, in seconds. Raises StreamRefused: for good."""
        end = self._replica.end
        if end is None:
            return None
        if end.retry is None:
            raise StreamRefused(f"the server ended the stream for good: {end.reason}", reason=end.reason)
        return end.retry / 1000

    def _backoff(self) -> float:
        """Seconds to wait: the server's `retry`, doubled with each failure in a row, with jitter."""
        milliseconds = min(MAX_RETRY_MS, self.retry_ms << self._attempt)  # `retry` may have any number of digits
        self._attempt = min(self._attempt + 1, 10)
        return milliseconds / 1000 * random.uniform(1.0, 1.5)  # noqa: S311  # spreads clients, hides nothing

    async def _follow(self, session: aiohttp.ClientSession) -> None:
        """One connection, until it ends."""
        headers = {"Accept": "text/event-stream"}
        if self._replica.position is not None:
            headers["Last-Event-ID"] = self._replica.position
        self._replica.end = None
        # not to where a redirect leads: the session's headers may hold what is for this server only
        request = session.get(f"{self._url}/stream/state", params=self._query, headers=headers, allow_redirects=False)
        async with asyncio.timeout(FIRST_SECONDS) as watchdog, request as response:
            await self._check(response)
            self.opened, self.is_open = self.opened + 1, True
            decoder = Decoder(last_id=self._replica.position or "")
            async for chunk in response.content.iter_any():
                for event in decoder.feed(chunk):
                    self._take(event)
                if decoder.retry is not None:
                    self.retry_ms = decoder.retry
                if self._replica.heartbeat_ms is not None:
                    heartbeat = self._replica.heartbeat_ms / 1000
                    self._pulse.heard(heartbeat)
                    watchdog.reschedule(asyncio.get_running_loop().time() + FAILED * heartbeat)

    def _take(self, event: Event) -> None:
        updates = self._replica.apply(event)
        if self._replica.position is not None:
            self._attempt = 0
        self._heard(event, updates)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200 and response.content_type == "text/event-stream":
            return
        if response.status >= 500 or response.status in TEMPORARY:
            raise Unavailable(f"expected a stream from {self._url}, got status {response.status}; trying again")
        said = response.headers.get("Location") or detail_of(await response.content.read(4096))
        raise StreamRefused(
            f"expected a stream from {self._url}, got status {response.status}: {said}",
            reason="refused",
            status=response.status,
        )
