"""What a program holds: a state that follows the server's, the updates to it, and the way to change it.

Invariants: loops only observe; the task of the connection alone changes the state. Each update makes new values, so a
value that a program holds never changes.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar, overload

import aiohttp

from statestream.client.address import address
from statestream.client.connection import Connection
from statestream.client.dispatch import dispatch
from statestream.client.health import Health, HeartbeatMonitor
from statestream.client.overlay import Overlay, Reducers
from statestream.client.recording.recorder import StreamRecorder
from statestream.client.replica import Replica, Update
from statestream.client.selection import selection_of, value_of
from statestream.client.token import Token, TokenSource
from statestream.client.update_queue import UpdateQueue
from statestream.core.change import Action, Result
from statestream.core.errors import Malformed, StatestreamError, TimedOut, Unavailable
from statestream.core.functions import check_plain
from statestream.core.slices import Slice
from statestream.protocol.sse import Event

T = TypeVar("T")
V = TypeVar("V")
CONNECT_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 1.0
"""Before an action whose change is shown is sent again, after so many attempts that the server seems to be gone."""


def connect(
    url: str,
    *,
    slices: Sequence[str] | str | None = None,
    cause: str = "brief",
    headers: Mapping[str, str] | None = None,
    token: TokenSource | None = None,
    timeout: float = 30.0,
    on_health: Callable[[Health], None] | None = None,
    optimistic: Reducers | None = None,
) -> Stream:
    """Returns a stream from the server at `url`, to be used with `async with`.

    `url` is the server's root, without `/stream/state`. It may contain a user and a password; they are sent as a
    header. `slices` are names, `name/*` or `*`, as a sequence or as one string with commas; None follows every plain
    slice. `cause="full"` includes the payloads of actions. `headers` are sent with every request, dispatches included,
    for example `{"X-API-Key": "…"}`. `token` is sent as `Authorization: Bearer …`; if it is a function, async or
    not, it is called for each connection, and again if the server refuses the token with a 401. `timeout` is how many
    seconds to wait for the first state. `on_health` is called whenever `Stream.health` changes. `optimistic` has, by
    the type of an action, a function of its slice's value and its payload, such as the handler: the change that it
    makes is in `Stream.state` as soon as you dispatch such an action, until the server has made or refused it. Raises
    Malformed if `url` is not an http or https URL, or if there are two sources of an `Authorization`.
    """
    root, credentials = address(url)
    names = None if slices is None else (slices if isinstance(slices, str) else ",".join(slices)).split(",")
    headers = {**credentials, **(headers or {})}
    if token is not None and any(name.lower() == "authorization" for name in headers):
        raise Malformed("expected `token` or another `Authorization`, in the URL or in `headers`; got both")
    return Stream(root, names, cause, headers, Token(token), timeout, on_health, optimistic or {})


class Stream:
    """A live copy of a server's slices, returned by `connect`. Iterate over it to receive updates."""

    def __init__(
        self,
        url: str,
        slices: Sequence[str] | None,
        cause: str,
        headers: Mapping[str, str],
        token: Token,
        timeout: float,
        on_health: Callable[[Health], None] | None,
        optimistic: Reducers,
    ) -> None:
        query = {"cause": cause} | ({} if slices is None else {"slices": ",".join(slices)})
        self._url, self._slices, self._headers, self._timeout = url, slices, headers, timeout
        self._replica = Replica()
        self._overlay = Overlay(self._replica, optimistic, self._follows)
        self._sending = asyncio.Lock()
        self._monitor = HeartbeatMonitor(on_health)
        self._token = token
        self._connection = Connection(url, query, self._replica, self._monitor, self._received, token)
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._failure: StatestreamError | None = None
        # It collects updates from the beginning, for the first loop; later loops start with what comes next.
        self._first_queue: UpdateQueue | None = UpdateQueue()
        self._queues: set[UpdateQueue] = {self._first_queue}
        self._recorders: list[StreamRecorder] = []
        self._closed = False

    @property
    def state(self) -> Mapping[str, Any]:
        """The newest value of each slice, by name. A value that you hold never changes."""
        return self._overlay.state

    @overload
    def get(self, name: Slice[V], key: str | None = None) -> V | None: ...
    @overload
    def get(self, name: str) -> Any: ...
    def get(self, name: str | Slice[Any], key: str | None = None) -> Any:
        """The newest value of a slice or instance; None if this copy does not have it.

        Name it in full (`"room/42"`), or pass the slice that your server declares, and the key of an instance:
        `get(room, "42")`. Then type checkers know the value, and it is an object if the slice has such a type. Raises
        InvalidValue.
        """
        return value_of(self.state, name, key)

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each slice, by name. `expect` of a dispatch is compared with these."""
        return self._replica.versions

    @property
    def position(self) -> str | None:
        """The cursor: the position up to which this copy is complete."""
        return self._replica.position

    @property
    def health(self) -> Health:
        """`degraded` after 1.5 heartbeats of silence; `failed` after 2.5, when the client reconnects."""
        return self._monitor.health

    async def __aenter__(self) -> Self:
        """Connects and waits for the state. Raises StreamRefused, or Unavailable after `timeout`."""
        limits = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
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
                f"no state from {self._url} within {self._timeout:g} s: {self._connection.trouble}"
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
        finally:  # whatever ended it: no loop may wait for more
            self._ready.set()
            self._end()

    def _end(self) -> None:
        self._closed = True
        self._monitor.stop()
        for recorder in self._recorders:
            recorder.stop()
        for queue in self._queues:
            queue.finish()

    def _received(self, event: Event, updates: Sequence[Update]) -> None:
        for recorder in self._recorders:
            recorder.record(event)
        self._overlay.updated(updates)
        if self._replica.position is not None:
            self._ready.set()
        for queue in self._queues:
            queue.add(updates)

    # observing

    def __aiter__(self) -> AsyncIterator[Update]:
        """Every update. The first loop starts at the beginning, later loops at the next update.

        A loop that is more than 10,000 updates behind receives one `initial` with the reason `lagged` instead. The
        loop ends when the stream is closed. Raises StreamRefused if the server refuses for good.
        """
        queue, self._first_queue = self._first_queue or UpdateQueue(), None
        return self._updates(self._attach(queue))

    def changes(self, name: str) -> AsyncIterator[Update]:
        """The updates of one slice (`board`, `chat/42`) or family (`chat/*`) from now on, and every `initial`.

        Raises Malformed if the stream does not follow it.
        """
        if not self._follows(name):
            raise Malformed(f"this stream follows no slice {name}; pass it to `connect`")
        return self._updates(self._attach(UpdateQueue(selection_of([name]))))

    async def wait_for(  # the timeout is a parameter because its error reports the position
        self,
        predicate: Callable[[Mapping[str, Any]], T],
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> T:
        """Waits until `predicate(state)` is true, and returns its result. Raises TimedOut after `timeout` seconds.

        The predicate is called after each frame, so it may miss a state that lasted for a moment only.
        """
        check_plain(predicate, "the predicate", "which returns what it has found in the state")
        queue = self._attach(UpdateQueue())
        try:
            async with asyncio.timeout(timeout):
                while not (result := predicate(self.state)):
                    if await queue.next() is None:
                        raise self._failure or Unavailable("the stream was closed while `wait_for` was waiting")
        except TimeoutError:
            raise TimedOut(
                f"the state did not become as expected within {timeout:g} s; it is at {self.position}"
            ) from None
        finally:
            self._queues.discard(queue)
        return result

    def _follows(self, name: str) -> bool:
        """Without names it follows every plain slice: the slices of the first state, once that is known."""
        if self._slices is None:
            return name in self.state if self.state else "/" not in name
        wanted = selection_of([name])
        return selection_of(self._slices).matches(name) or any(map(wanted.matches, self._slices))

    def record(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> StreamRecorder:
        """Records the stream into a file from now on, until the stream or the recorder is closed.

        Use it with `with`, or call `close`. The file begins with the current state; `statestream.client.replay` plays
        it back. Several recorders may run at once. Raises RecordingFailed if the file cannot be written, or if it
        exists and `overwrite` is false. An error of the disk later on ends the recording, not the stream, and is
        raised when the recorder is closed.
        """
        if self._task is None or self._closed:
            raise RuntimeError("the stream is not open; use `async with connect(…)`")
        recorder = StreamRecorder(path, url=self._url, slices=self._slices, replica=self._replica, overwrite=overwrite)
        self._recorders = [each for each in self._recorders if not each.closed] + [recorder]
        return recorder

    def _attach(self, queue: UpdateQueue) -> UpdateQueue:
        self._queues.add(queue)
        if self._closed:
            queue.finish()
        return queue

    async def _updates(self, queue: UpdateQueue) -> AsyncIterator[Update]:
        try:
            while (update := await queue.next()) is not None:
                yield update
            if self._failure is not None:
                raise self._failure
        finally:
            self._queues.discard(queue)

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
        """Dispatches an Action, or a type with its payload and key, or several Actions that take effect together.

        The request always has an id, so it is repeated after a lost connection or a 503 and still takes effect once.
        Raises what `Store.dispatch` raises, and Unavailable if no attempt was answered. Actions whose changes are shown
        at once (`optimistic`) are sent one after the other, for as long as it takes.
        """
        if self._session is None or self._session.closed:
            raise RuntimeError("the stream is not open; use `async with connect(…)`")
        if isinstance(action, str):
            action = Action(type=action, payload=payload or {}, key=key)
        elif payload is not None or key is not None:
            raise TypeError("an Action has its own payload and key; pass these only with a type")
        actions = [action] if isinstance(action, Action) else action
        if self._overlay.expects(actions):
            return await self._expecting(self._session, actions, id or uuid.uuid4().hex, expect)
        return await dispatch(self._session, self._url, actions, id=id, expect=expect, token=self._token)

    async def _expecting(
        self, session: aiohttp.ClientSession, actions: Sequence[Action], id: str, expect: Mapping[str, int] | None
    ) -> Result:
        self._overlay.add(id, actions)
        try:
            async with self._sending:  # in the order of their dispatch
                sent = False
                while True:
                    if session.closed:
                        outcome = "the outcome is unknown" if sent else "nothing was sent"
                        raise Unavailable(f"the stream was closed; {outcome}")
                    self._overlay.sent(id)
                    sent = True
                    try:
                        result = await dispatch(session, self._url, actions, id=id, expect=expect, token=self._token)
                        break
                    except Unavailable:
                        if self._closed:
                            raise
                    await asyncio.sleep(PAUSE_SECONDS)
        except BaseException:
            self._overlay.refused(id)
            raise
        self._overlay.answered(id, result)
        return result
