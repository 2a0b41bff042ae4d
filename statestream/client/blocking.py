"""The client for scripts and notebooks: the same stream, without an event loop of one's own.

    with connect_sync("http://127.0.0.1:8000", slices=["board"]) as stream:
        stream.dispatch("board/task_added", {"id": "1", "title": "Ship it"})
        print(stream.wait_for(lambda state: state["board"]["tasks"]))

Invariants: a facade. A thread runs the loop that owns the stream; every call hands over to it and waits. Values are
never mutated, so the state may be read from any thread.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Self, TypeVar

from statestream.client.health import Health
from statestream.client.recording import Recorder
from statestream.client.replica import Update
from statestream.client.stream import Stream, connect
from statestream.core.change import Action, Result
from statestream.core.errors import Unavailable

T = TypeVar("T")


def connect_sync(
    url: str,
    *,
    slices: Sequence[str] | str | None = None,
    cause: str = "brief",
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    on_health: Callable[[Health], None] | None = None,
) -> BlockingStream:
    """As `connect`, to be used with `with`.

    `on_health`, and what is given to `wait_for`, are called in another thread, the stream's own: there nothing of the
    stream may be waited for.
    """
    return BlockingStream(
        lambda: connect(url, slices=slices, cause=cause, headers=headers, timeout=timeout, on_health=on_health)
    )


class BlockingStream:
    """What `connect_sync` makes: every method is that of `Stream`, and may be called from any thread."""

    def __init__(self, make: Callable[[], Stream]) -> None:
        self._make = make
        self._opened: Future[Stream] = Future()
        self._thread = threading.Thread(target=self._run, name="statestream", daemon=True)
        self._over: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop
        self._lock = threading.Lock()
        self._ended = False

    def __enter__(self) -> Self:
        """Connects and waits for the state. Raises StreamRefused, or Unavailable after `timeout`."""
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self._over.set_result(None)  # the thread may still be connecting: it ends by itself
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set_result(None)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with self._make() as stream:
                self._opened.set_result(stream)
                await asyncio.wrap_future(self._over)
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)
        finally:
            with self._lock:
                self._ended = True  # from here on nothing is begun
            await asyncio.sleep(0)  # and what was begun is a task now, which the loop cancels as it ends

    @property
    def _stream(self) -> Stream:
        if not self._opened.done():
            raise RuntimeError("expected a stream that is open: use `with connect_sync(…)`")
        return self._opened.result()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs it where the stream lives."""
        future = self._begin(coroutine)
        if future is None:
            raise RuntimeError("expected a stream that is open: use `with connect_sync(…)`")
        return self._result(future)

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T] | None:
        """Begins it where the stream lives; None where that has ended, or has not begun."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("expected a call from outside: a callback or a predicate must not wait for its stream")
        with self._lock:
            if self._ended or not self._thread.is_alive():
                coroutine.close()
                return None
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _result(self, future: Future[T]) -> T:
        try:
            return future.result()
        except CancelledError:
            raise Unavailable("expected a stream that is open, it was closed") from None
        except BaseException:
            future.cancel()
            raise

    @property
    def state(self) -> Mapping[str, Any]:
        """The newest value of each slice, by name."""
        return self._stream.state

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each slice."""
        return self._stream.versions

    @property
    def position(self) -> str | None:
        """The cursor: up to where this copy has everything."""
        return self._stream.position

    @property
    def health(self) -> Health:
        """As of `Stream.health`."""
        return self._stream.health

    def __iter__(self) -> Iterator[Update]:
        """Every update, as iterating over a `Stream` gives them."""
        return self._each(self._stream.__aiter__)

    def changes(self, name: str) -> Iterator[Update]:
        """The updates of one slice or of a family, as of `Stream.changes`."""
        return self._each(lambda: self._stream.changes(name))

    def _each(self, start: Callable[[], AsyncIterator[Update]]) -> Iterator[Update]:
        """From now on, not from the first `next`; ends where the stream does."""

        async def begun() -> AsyncIterator[Update]:
            return start()

        return self._following(self._wait(begun()))

    def _following(self, updates: AsyncIterator[Update]) -> Iterator[Update]:
        async def following() -> Update | None:
            return await anext(updates, None)

        try:
            while (future := self._begin(following())) is not None and (update := self._result(future)) is not None:
                yield update
        finally:
            self._begin(_close(updates))

    def wait_for(self, predicate: Callable[[Mapping[str, Any]], T], timeout: float | None = None) -> T:
        """Waits until `predicate(state)` is true, as `Stream.wait_for` does."""
        return self._wait(self._stream.wait_for(predicate, timeout))

    def record(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Recorder:
        """Keeps the stream in a file from now on, as `Stream.record` does."""

        async def begun() -> Recorder:
            return self._stream.record(path, overwrite=overwrite)

        return self._wait(begun())

    def dispatch(
        self,
        action: Action | Sequence[Action] | str,
        payload: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        id: str | None = None,
        expect: Mapping[str, int] | None = None,
    ) -> Result:
        """Makes an action happen on the server, as `Stream.dispatch` does."""
        return self._wait(self._stream.dispatch(action, payload, key=key, id=id, expect=expect))


async def _close(updates: AsyncIterator[Update]) -> None:
    if isinstance(updates, AsyncGenerator):
        await updates.aclose()
