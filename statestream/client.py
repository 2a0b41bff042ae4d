"""A live copy of a server's state in a Python program.

    async with connect("http://127.0.0.1:8000", slices=["board", "chat/*"]) as stream:
        print(stream.state["board"])
        async for update in stream:
            print(update.slice, update.patches)

One task owns the connection: it reads, applies, comes back after a loss where it left off, and starts
afresh after a gap. Iterating only looks on: a program that iterates slowly never holds the state up.

Law: what the frames mean is the replica's business; here are connections, time and retries. Errors of
aiohttp do not pass.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Self

import aiohttp
import orjson

from statestream.change import Action, Position, Result
from statestream.errors import Gap, Malformed, Refused, StatestreamError, StreamRefused, TooLarge, Unavailable
from statestream.replica import Replica, Update
from statestream.sse import Decoder
from statestream.values import plain

log = logging.getLogger("statestream")

FIRST_RETRY_MS: Final = 500
MAX_RETRY_SECONDS: Final = 30.0
SILENCE: Final = 2.5  # heartbeats without a byte after which a connection is taken for dead
MAX_UPDATES: Final = 10_000
DISPATCH_TRIES: Final = 8
BUSY: Final = (429, 502, 503, 504)  # also said by what stands in between


def connect(url: str, *, slices: Sequence[str] | None = None, cause: str = "brief", timeout: float = 30.0) -> Stream:
    """A stream from the server at `url` (its root, without /stream/state), to be used with `async with`.

    `slices`: names, `name/*` or `*`; None: every plain slice. `cause="full"` brings payloads. `timeout`:
    seconds to wait for the first state.
    """
    return Stream(url.rstrip("/"), slices, cause, timeout)


class Stream:
    """See `connect`. `state` maps slice names to values; each update makes new ones, what you hold stays."""

    def __init__(self, url: str, slices: Sequence[str] | None, cause: str, timeout: float) -> None:
        self._url = url
        self._query = {"cause": cause} | ({} if slices is None else {"slices": ",".join(slices)})
        self._timeout = timeout
        self._replica = Replica()
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._failure: StatestreamError | None = None
        self._unseen: _Follower | None = _Follower()
        self._followers: set[_Follower] = {self._unseen}
        self._trouble = "nothing was answered"
        self._closed = False
        self._retry_ms = FIRST_RETRY_MS
        self._attempt = 0

    @property
    def state(self) -> Mapping[str, Any]:
        return self._replica.state

    @property
    def versions(self) -> Mapping[str, int]:
        return self._replica.versions

    @property
    def position(self) -> str | None:
        """The cursor: up to where this copy has everything."""
        return self._replica.position

    async def __aenter__(self) -> Self:
        """Connects and waits for the state. Raises StreamRefused, or Unavailable after `timeout`."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=10.0))
        self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(self._timeout):
                await self._ready.wait()
            if self._failure is not None and self._replica.position is None:
                raise self._failure
        except TimeoutError:
            await self.__aexit__()
            raise Unavailable(
                f"expected a state from {self._url} within {self._timeout:g} s: {self._trouble}"
            ) from None
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._closed = True
        for follower in self._followers:
            follower.finish()
        if self._session is not None:
            await self._session.close()

    def __aiter__(self) -> AsyncIterator[Update]:
        """Every update: for the first who iterates from the beginning, for others from now on.

        Whoever falls more than 10,000 behind gets one `initial`, reason `lagged`, in their stead. Ends
        when the stream is closed. Raises StreamRefused if the server refused for good.
        """
        follower, self._unseen = self._unseen or _Follower(), None
        self._followers.add(follower)
        if self._failure is not None or self._closed:
            follower.finish()
        return self._updates(follower)

    async def _updates(self, follower: _Follower) -> AsyncIterator[Update]:
        try:
            while (update := await follower.next()) is not None:
                yield update
            if self._failure is not None:
                raise self._failure
        finally:
            self._followers.discard(follower)

    # the connection

    async def _run(self) -> None:
        while True:
            delay = None
            try:
                await self._follow()
                end = self._replica.end
                if end is not None:
                    if end.retry is None:
                        raise StreamRefused(f"the server ended the stream for good: {end.reason}", reason=end.reason)
                    delay = end.retry / 1000
            except (StreamRefused, TooLarge) as error:
                self._fail(error)
                return
            except Gap:
                self._replica.forget_position()
            except (Unavailable, aiohttp.ClientError, TimeoutError, OSError) as error:
                self._trouble = str(error) or type(error).__name__  # then come back where we left off
            except Exception as error:
                log.exception("following %s failed", self._url)
                self._fail(StreamRefused(f"following {self._url} failed: {error!r}", reason="failed"))
                return
            await asyncio.sleep(self._backoff() if delay is None else delay)

    def _backoff(self) -> float:
        """Seconds to wait: the server's `retry`, doubled with each failure in a row, with jitter."""
        seconds = min(MAX_RETRY_SECONDS, float(self._retry_ms << self._attempt) / 1000)
        self._attempt = min(self._attempt + 1, 10)
        return seconds * random.uniform(1.0, 1.5)  # noqa: S311  # spreads clients, hides nothing

    async def _follow(self) -> None:
        """One connection, until it ends."""
        assert self._session is not None
        headers = {"Accept": "text/event-stream"}
        if self._replica.position is not None:
            headers["Last-Event-ID"] = self._replica.position
        self._replica.end = None
        request = self._session.get(f"{self._url}/stream/state", params=self._query, headers=headers)
        async with asyncio.timeout(MAX_RETRY_SECONDS) as watchdog, request as response:
            await self._check(response)
            decoder = Decoder(last_id=self._replica.position or "")
            async for chunk in response.content.iter_any():
                for event in decoder.feed(chunk):
                    self._tell(self._replica.apply(event))
                if decoder.retry is not None:
                    self._retry_ms = decoder.retry
                heartbeat = self._replica.heartbeat_ms
                silence = MAX_RETRY_SECONDS if heartbeat is None else SILENCE * heartbeat / 1000
                watchdog.reschedule(asyncio.get_running_loop().time() + silence)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200 and response.content_type == "text/event-stream":
            return
        if response.status >= 500 or response.status in (408, 425, 429):
            raise Unavailable(f"expected a stream from {self._url}, got status {response.status}; trying again")
        body = await response.content.read(4096)
        raise StreamRefused(
            f"expected a stream from {self._url}, got status {response.status}: {body.decode(errors='replace')[:500]}",
            reason="refused",
            status=response.status,
        )

    def _tell(self, updates: Sequence[Update]) -> None:
        if self._replica.position is not None:
            self._attempt = 0
            self._ready.set()
        for follower in self._followers:
            follower.add(updates)

    def _fail(self, error: StatestreamError) -> None:
        self._failure = error
        self._ready.set()
        for follower in self._followers:
            follower.finish()

    # dispatch

    async def dispatch(
        self,
        action: Action | str,
        payload: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        id: str | None = None,
        expect: Mapping[str, int] | None = None,
    ) -> Result:
        """Makes an action happen on the server: an Action, or a type with its payload and key.

        It always has an id, so it is tried again after a lost connection or a 503 and still happens once.
        Raises what `Store.dispatch` raises, and Unavailable when trying again has not helped.
        """
        if isinstance(action, str):
            action = Action(type=action, payload=payload or {}, key=key)
        body: dict[str, Any] = {"type": action.type, "payload": plain(action.payload), "id": id or uuid.uuid4().hex}
        if action.key is not None:
            body["key"] = action.key
        if expect:
            body["expect"] = dict(expect)
        encoded = orjson.dumps(body)
        for attempt in range(DISPATCH_TRIES):
            answer = await self._post(encoded)
            if answer is not None:
                return answer
            await asyncio.sleep(min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
        raise Unavailable(
            f"expected an answer from {self._url}, got none in {DISPATCH_TRIES} tries; the outcome is unknown"
        )

    async def _post(self, body: bytes) -> Result | None:
        """The answer, or None where trying again may help."""
        if self._session is None or self._session.closed:
            raise RuntimeError("expected a stream that is open: use `async with connect(…)`")
        headers = {"Content-Type": "application/json"}
        limit = aiohttp.ClientTimeout(total=30.0)
        try:
            async with self._session.post(
                f"{self._url}/dispatch", data=body, headers=headers, timeout=limit
            ) as response:
                answer = await response.read()
                if response.status == 200:
                    return _result(answer)
                error = _from_problem(answer, response.status)
                if error.retryable or response.status in BUSY:
                    return None
                raise error
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


class _Follower:
    """What one `async for` has still to see."""

    def __init__(self) -> None:
        self._updates: deque[Update] = deque()
        self._changed = asyncio.Event()
        self._finished = False

    def add(self, updates: Sequence[Update]) -> None:
        if not updates:
            return
        self._updates.extend(updates)
        if len(self._updates) > MAX_UPDATES:
            last = self._updates[-1]
            self._updates.clear()
            self._updates.append(
                Update(kind="initial", position=last.position, reason="lagged", timestamp=last.timestamp)
            )
        self._changed.set()

    def finish(self) -> None:
        self._finished = True
        self._changed.set()

    async def next(self) -> Update | None:
        while not self._updates:
            if self._finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._updates.popleft()


def _result(body: bytes) -> Result:
    try:
        answer = orjson.loads(body)
        return Result(
            id=answer["id"],
            position=Position.parse(answer["position"]),
            duplicate=answer["duplicate"],
            changes=tuple((change["slice"], change["version"]) for change in answer["changes"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, Malformed):
        raise StreamRefused(
            "expected a dispatch's answer, got something else; is this the right URL?", reason="answer"
        ) from None


def _from_problem(body: bytes, status: int) -> StatestreamError:
    """The error that the server raised, from its problem; what somebody in between says is StreamRefused."""
    try:
        answer = orjson.loads(body)
        code, detail = answer["code"], str(answer.get("detail", ""))
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        answer, code, detail = {}, "refused", body[:200].decode(errors="replace")
    if code == Refused.code:
        return Refused(str(answer.get("reason", "")), detail)
    for kind in StatestreamError.__subclasses__():
        if kind.code == code and kind is not StreamRefused:
            return kind(detail)
    return StreamRefused(f"the server refused with status {status}: {detail}", reason=str(code), status=status)
