"""The client for scripts and notebooks: the same stream, without an event loop in the program.

    with connect_sync("http://127.0.0.1:8000", slices=["board"]) as stream:
        stream.dispatch("board/task_added", {"id": "1", "title": "Ship it"})
        print(stream.wait_for(lambda state: state["board"]["tasks"]))

Invariants: a façade. A thread runs the event loop that owns the stream; every call is handed over to that loop and
waits. Values never change, so any thread may read the state.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Self, TypeVar, overload

from statestream.client.health import Health
from statestream.client.overlay import Reducers
from statestream.client.recording.recorder import StreamRecorder
from statestream.client.replica import Update
from statestream.client.selection import value_of
from statestream.client.stream import Stream, connect
from statestream.client.token import TokenSource
from statestream.core.change import Action, Result
from statestream.core.errors import Unavailable
from statestream.core.slices import Slice

T = TypeVar("T")
V = TypeVar("V")
NOT_OPEN: Final = "the stream is not open; use `with connect_sync(…)`"


def connect_sync(
    url: str,
    *,
    slices: Sequence[str] | str | None = None,
    cause: str = "brief",
    headers: Mapping[str, str] | None = None,
    token: TokenSource | None = None,
    timeout: float = 30.0,
    on_health: Callable[[Health], None] | None = None,
    optimistic: Reducers | None = None,
) -> BlockingStream:
    """Returns a stream to be used with `with`. The arguments are those of `connect`.

    `token`, `on_health`, the functions of `optimistic` and the predicate of `wait_for` are called in the stream's own
    thread. They must not call methods of the stream that wait.
    """
    options: dict[str, Any] = {"cause": cause, "headers": headers, "token": token, "timeout": timeout}
    return BlockingStream(lambda: connect(url, slices=slices, on_health=on_health, optimistic=optimistic, **options))


class BlockingStream:
    """A `Stream` for code without an event loop, returned by `connect_sync`. Any thread may call its methods."""

    def __init__(self, make: Callable[[], Stream]) -> None:
        self._make = make
        self._opened: Future[Stream] = Future()
        self._thread = threading.Thread(target=self._run, name="statestream", daemon=True)
        self._exited: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop
        self._lock = threading.Lock()
        self._ended = False

    def __enter__(self) -> Self:
        """Connects and waits for the state. Raises StreamRefused, or Unavailable after `timeout`."""
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self._exited.set_result(None)  # the thread may still be connecting, and ends by itself
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exited.set_result(None)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with self._make() as stream:
                self._opened.set_result(stream)
                await asyncio.wrap_future(self._exited)
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)
        finally:
            with self._lock:
                self._ended = True  # from here on no call is started
            await asyncio.sleep(0)  # calls that were started are tasks now, and the loop cancels them as it ends

    @property
    def _stream(self) -> Stream:
        if not self._opened.done():
            raise RuntimeError(NOT_OPEN)
        return self._opened.result()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs the coroutine in the stream's loop and returns its result."""
        future = self._start(coroutine)
        if future is None:
            raise RuntimeError(NOT_OPEN)
        return self._result(future)

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Starts the coroutine in the stream's loop; returns None if the loop has ended or has not started."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("call this from outside: a callback or predicate must not wait for its own stream")
        with self._lock:
            if self._ended or not self._thread.is_alive():
                coroutine.close()
                return None
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _result(self, future: Future[T]) -> T:
        try:
            return future.result()
        except CancelledError:
            raise Unavailable("the stream was closed during this call") from None
        except BaseException:
            future.cancel()
            raise

    @property
    def state(self) -> Mapping[str, Any]:
        """The newest value of each slice, by name. A value that you hold never changes."""
        return self._stream.state

    @overload
    def get(self, name: Slice[V], key: str | None = None) -> V | None: ...
    @overload
    def get(self, name: str) -> Any: ...
    def get(self, name: str | Slice[Any], key: str | None = None) -> Any:
        """The newest value of a slice or instance, as from `Stream.get`."""
        return value_of(self.state, name, key)

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each slice, by name."""
        return self._stream.versions

    @property
    def position(self) -> str | None:
        """The cursor: the position up to which this copy is complete."""
        return self._stream.position

    @property
    def health(self) -> Health:
        """The same as `Stream.health`."""
        return self._stream.health

    def __iter__(self) -> Iterator[Update]:
        """Every update, as a loop over a `Stream` receives them."""
        return self._iterate(self._stream.__aiter__)

    def changes(self, name: str) -> Iterator[Update]:
        """The updates of one slice or family, as from `Stream.changes`."""
        return self._iterate(lambda: self._stream.changes(name))

    def _iterate(self, start: Callable[[], AsyncIterator[Update]]) -> Iterator[Update]:
        """Starts now, not with the first `next`, so that no update is missed in between. Ends with the stream."""

        async def started() -> AsyncIterator[Update]:
            return start()

        return self._updates(self._wait(started()))

    def _updates(self, updates: AsyncIterator[Update]) -> Iterator[Update]:
        async def following() -> Update | None:
            return await anext(updates, None)

        try:
            while (future := self._start(following())) is not None and (update := self._result(future)) is not None:
                yield update
        finally:
            self._start(_close(updates))

    def wait_for(self, predicate: Callable[[Mapping[str, Any]], T], timeout: float | None = None) -> T:
        """Waits until `predicate(state)` is true, as `Stream.wait_for` does."""
        return self._wait(self._stream.wait_for(predicate, timeout))

    def record(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> StreamRecorder:
        """Records the stream into a file from now on, as `Stream.record` does."""

        async def started() -> StreamRecorder:
            return self._stream.record(path, overwrite=overwrite)

        return self._wait(started())

    def dispatch(
        self,
        action: Action | Sequence[Action] | str,
        payload: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        id: str | None = None,
        expect: Mapping[str, int] | None = None,
    ) -> Result:
        """Dispatches an action, as `Stream.dispatch` does."""
        return self._wait(self._stream.dispatch(action, payload, key=key, id=id, expect=expect))


async def _close(updates: AsyncIterator[Update]) -> None:
    if isinstance(updates, AsyncGenerator):
        await updates.aclose()
