"""What a program holds: a state that follows the server's, its updates, and the way to change it.

Invariants: iterating only looks on; the connection's task alone changes the state. Each update makes new values: what
a program holds stays as it was.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import aiohttp

from statestream.client.address import address
from statestream.client.connection import Connection
from statestream.client.dispatching import dispatch
from statestream.client.followers import Follower, selects
from statestream.client.health import Health, Pulse
from statestream.client.recording import Recorder
from statestream.client.replica import Replica, Update
from statestream.core.change import Action, Result
from statestream.core.errors import Malformed, StatestreamError, TimedOut, Unavailable
from statestream.protocol.sse import Event

T = TypeVar("T")


def connect(
    url: str,
    *,
    slices: Sequence[str] | str | None = None,
    cause: str = "brief",
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    on_health: Callable[[Health], None] | None = None,
) -> Stream:
    """A stream from the server at `url` (its root, without /stream/state), to be used with `async with`.

    `slices`: names, `name/*` or `*`, also as one text with commas; None: every plain slice. `cause="full"` brings
    payloads. `headers` go with every request, dispatches too: `{"Authorization": "Bearer …"}` for a proxy in front; a
    user and a password in `url` are one of them. `timeout`: seconds to wait for the first state. `on_health` is called
    with every turn of `Stream.health`. Raises Malformed for a `url` that is none of http or https.
    """
    root, login = address(url)
    names = None if slices is None else (slices if isinstance(slices, str) else ",".join(slices)).split(",")
    return Stream(root, names, cause, {**login, **(headers or {})}, timeout, on_health)


class Stream:
    """A live copy of a server's slices, which `connect` makes. Iterate over it for updates."""

    def __init__(
        self,
        url: str,
        slices: Sequence[str] | None,
        cause: str,
        headers: Mapping[str, str],
        timeout: float,
        on_health: Callable[[Health], None] | None,
    ) -> None:
        query = {"cause": cause} | ({} if slices is None else {"slices": ",".join(slices)})
        self._url, self._slices, self._headers, self._timeout = url, slices, headers, timeout
        self._replica = Replica()
        self._pulse = Pulse(on_health)
        self._connection = Connection(url, query, self._replica, self._pulse, self._heard)
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._failure: StatestreamError | None = None
        self._unseen: Follower | None = Follower()
        self._followers: set[Follower] = {self._unseen}
        self._recorders: list[Recorder] = []
        self._closed = False

    @property
    def state(self) -> Mapping[str, Any]:
        """The newest value of each slice, by name. Values are never mutated: what you hold stays as it was."""
        return self._replica.state

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each slice: what `expect` of a dispatch is compared with."""
        return self._replica.versions

    @property
    def position(self) -> str | None:
        """The cursor: up to where this copy has everything."""
        return self._replica.position

    @property
    def health(self) -> Health:
        """`degraded` after 1.5 heartbeats of silence, `failed` after 2.5: then the connection is made anew."""
        return self._pulse.health

    async def __aenter__(self) -> Self:
        """Connects and waits for the state. Raises StreamRefused, or Unavailable after `timeout`."""
        limits = aiohttp.ClientTimeout(total=None, connect=10.0)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=limits)
        self._task = asyncio.create_task(self._run(self._session))
        try:
            async with asyncio.timeout(self._timeout):
                await self._ready.wait()
            if self._failure is not None and self._replica.position is None:
                raise self._failure
        except TimeoutError:
            await self.__aexit__()
            raise Unavailable(
                f"expected a state from {self._url} within {self._timeout:g} s: {self._connection.trouble}"
            ) from None
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end()
        if self._session is not None:
            await self._session.close()

    async def _run(self, session: aiohttp.ClientSession) -> None:
        try:
            self._failure = await self._connection.run(session)
        finally:  # whatever ended it, nobody waits for more
            self._ready.set()
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._pulse.stop()
        for recorder in self._recorders:
            recorder.stop()
        for follower in self._followers:
            follower.finish()

    def _heard(self, event: Event, updates: Sequence[Update]) -> None:
        for recorder in self._recorders:
            recorder.heard(event)
        if self._replica.position is not None:
            self._ready.set()
        for follower in self._followers:
            follower.add(updates)

    # looking on

    def __aiter__(self) -> AsyncIterator[Update]:
        """Every update: for the first who iterates from the beginning, for others from now on.

        Whoever falls more than 10,000 behind gets one `initial`, reason `lagged`, in their stead. Ends
        when the stream is closed. Raises StreamRefused if the server refused for good.
        """
        follower, self._unseen = self._unseen or Follower(), None
        return self._updates(self._follow(follower))

    def changes(self, name: str) -> AsyncIterator[Update]:
        """The updates of one slice (`board`, `chat/42`) or of a family (`chat/*`) from now on, and every `initial`.

        Raises Malformed where the stream does not follow it.
        """
        if not self._covers(name):
            raise Malformed(f"expected a slice that this stream follows, got {name}; name it to `connect`")
        return self._updates(self._follow(Follower(selects(name))))

    async def wait_for(  # a timeout that says in its error where the state stands
        self,
        predicate: Callable[[Mapping[str, Any]], T],
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> T:
        """Waits until `predicate(state)` is true, and gives what it gave. Raises TimedOut after `timeout` seconds.

        It is asked after each frame, so a state that was there for a moment only may go by unseen.
        """
        follower = self._follow(Follower())
        try:
            async with asyncio.timeout(timeout):
                while not (found := predicate(self.state)):
                    if await follower.next() is None:
                        raise self._failure or Unavailable("expected a stream that is open, it was closed")
        except TimeoutError:
            raise TimedOut(
                f"expected the state to become as wanted within {timeout:g} s, it did not; it stands at {self.position}"
            ) from None
        finally:
            self._followers.discard(follower)
        return found

    def _covers(self, name: str) -> bool:
        """Without names it follows every plain slice: those that came with the first state, once that is here."""
        if self._slices is None:
            return name in self.state if self.state else "/" not in name
        return any(each == "*" or selects(each)(name) or selects(name)(each) for each in self._slices)

    def record(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Recorder:
        """Keeps the stream in a file from now on, until it or the recording is closed: for `statestream.replay`.

        To be used with `with`, or closed by `close`. The file begins with the state as it is now. Several at once
        are allowed. Raises RecordingFailed where `path` exists and `overwrite` does not say so, or cannot be
        written; what the disk says later is raised when the recording is closed, and the stream goes on.
        """
        if self._task is None or self._closed:
            raise RuntimeError("expected a stream that is open: use `async with connect(…)`")
        recorder = Recorder(path, url=self._url, slices=self._slices, replica=self._replica, overwrite=overwrite)
        self._recorders = [one for one in self._recorders if not one.closed] + [recorder]
        return recorder

    def _follow(self, follower: Follower) -> Follower:
        self._followers.add(follower)
        if self._closed:
            follower.finish()
        return follower

    async def _updates(self, follower: Follower) -> AsyncIterator[Update]:
        try:
            while (update := await follower.next()) is not None:
                yield update
            if self._failure is not None:
                raise self._failure
        finally:
            self._followers.discard(follower)

    # changing

    async def dispatch(
        self,
        action: Action | Sequence[Action] | str,
        payload: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        id: str | None = None,
        expect: Mapping[str, int] | None = None,
    ) -> Result:
        """Makes an action happen on the server: an Action, or a type with its payload and key; or several as one.

        It always has an id, so it is tried again after a lost connection or a 503 and still happens once.
        Raises what `Store.dispatch` raises, and Unavailable when trying again has not helped.
        """
        if self._session is None or self._session.closed:
            raise RuntimeError("expected a stream that is open: use `async with connect(…)`")
        if isinstance(action, str):
            action = Action(type=action, payload=payload or {}, key=key)
        elif payload is not None or key is not None:
            raise TypeError("expected a payload and a key with a type only: an Action has its own")
        actions = [action] if isinstance(action, Action) else action
        return await dispatch(self._session, self._url, actions, id=id, expect=expect)
