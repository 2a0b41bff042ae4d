"""Replies in the making: from a model's pieces to actions on the chat.

Pieces are gathered for a frame's time and dispatched as one action, the first at once, so that what
a reply costs does not depend on how finely the provider cuts it.

Law: a reply belongs to the server, never to a request. However it ends, its text so far stays, and its
last action says how: complete, or error with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from statestream.change import Action
from statestream.chat import slice as chat
from statestream.chat.models import Finish, Model, ModelFailed, Turn
from statestream.errors import Refused, StatestreamError, Unavailable
from statestream.store import Store

log = logging.getLogger("statestream")
T = TypeVar("T")

GATHER_SECONDS: Final = 0.03
PATIENCE_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds until a reply is given up: for its first piece, between two, and in all."""

    first: float = 60.0
    idle: float = 60.0
    total: float = 300.0


class Generation:
    """One reply: reads the model and writes what it says into the chat, until it is over."""

    def __init__(self, store: Store, key: str, reply: str, model: Model, timeouts: Timeouts) -> None:
        self._store, self._key, self._reply = store, key, reply
        self._model, self._timeouts = model, timeouts
        self._pieces: list[str] = []
        self._said = 0
        self._news = asyncio.Event()
        self._reader: asyncio.Task[dict[str, Any]] | None = None
        self._stopped = False

    def stop(self) -> None:
        """No more is read from the model; what was read is written, and the reply ends as interrupted."""
        self._stopped = True
        if self._reader is not None:
            self._reader.cancel()

    async def run(self, turns: Sequence[Turn]) -> None:
        """Ends when the reply has, and that is written down, however long the journal is away."""
        reader = self._reader = asyncio.create_task(self._read(turns))
        reader.add_done_callback(lambda _: self._news.set())
        if self._stopped:
            reader.cancel()
        try:
            await self._write(reader)
            await self._end(INTERRUPTED if reader.cancelled() else reader.result())
        except Refused:
            log.info("the reply %s of chat %s was ended by another hand", self._reply, self._key)
        except StatestreamError:
            log.exception("what the model %s said cannot be kept", self._model.name)
            await self._end(_error("failed", "The model said something that cannot be kept."))
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _write(self, reader: asyncio.Task[Any]) -> None:
        """Says what was read, a chunk for each frame's time, until the reader is done and all is said."""
        loop = asyncio.get_running_loop()
        while not reader.done() or self._pieces:
            await self._news.wait()
            self._news.clear()
            began = loop.time()
            if self._pieces:
                text = "".join(self._pieces)
                self._pieces.clear()
                await self._say(chat.grew(self._key, reply=self._reply, index=self._said, text=text))
                self._said += 1
            if not reader.done():
                await asyncio.wait((reader,), timeout=max(0.0, GATHER_SECONDS - (loop.time() - began)))

    async def _end(self, end: Mapping[str, Any]) -> None:
        await self._say(chat.ended(self._key, reply=self._reply, **end), id=secrets.token_urlsafe(9))

    async def _say(self, action: Action, id: str | None = None) -> None:
        """Dispatches until it is done. A journal that is away for a minute ends the reading, not the trying."""
        give_up = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            try:
                await self._store.dispatch(action, id=id)
            except Unavailable:
                if asyncio.get_running_loop().time() > give_up:
                    self.stop()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _read(self, turns: Sequence[Turn]) -> dict[str, Any]:
        """How the model ended; its pieces are left for the writer."""
        finish: Finish | None = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.total), asyncio.timeout(self._timeouts.first) as silence:
                async for piece in self._model.answer(turns):
                    silence.reschedule(loop.time() + self._timeouts.idle)
                    if isinstance(piece, Finish):
                        finish = piece
                    elif piece:
                        self._pieces.append(piece.encode(errors="replace").decode())  # no lone surrogates
                        self._news.set()
        except ModelFailed as failure:
            return _error(failure.kind, str(failure))
        except TimeoutError:
            return _error("timeout", "The model has not answered in time.")
        except Exception:
            log.exception("the model %s raised what a model should not", self._model.name)
            return _error("failed", "The model broke off with an error.")
        if finish is None:
            return _error("truncated", "The reply was cut short.")
        return {"status": "complete", "finish_reason": finish.reason.encode(errors="replace").decode()}


def _error(kind: str, sentence: str) -> dict[str, Any]:
    return {"status": "error", "error": {"kind": kind, "message": sentence}}


INTERRUPTED: Final = _error("interrupted", "The server stopped before the reply was done.")


class Generations:
    """The replies that this process makes, and the questions that are being saved. All are awaited in `close`."""

    def __init__(self) -> None:
        self._making: dict[asyncio.Task[Any], Generation] = {}
        self._asking: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, generation: Generation, turns: Sequence[Turn]) -> None:
        task = asyncio.create_task(generation.run(turns))
        self._making[task] = generation
        task.add_done_callback(lambda _: self._making.pop(task))
        task.add_done_callback(_look)
        if self._closed:
            generation.stop()

    async def owned(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that goes on when its caller is cancelled. Raises Unavailable once closed."""
        if self._closed:
            work.close()
            raise Unavailable("the server is stopping; ask again in a moment")
        task = asyncio.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        task.add_done_callback(_look)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ends what is being made: each reply keeps its text and is marked as interrupted, if the journal is there."""
        self._closed = True
        for generation in self._making.values():
            generation.stop()
        tasks = (*self._asking, *self._making)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _look(task: asyncio.Task[Any]) -> None:
    """Nobody may be waiting for the task: what went wrong is logged. A Refused is an answer, not a failure."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Refused):
        level = logging.WARNING if isinstance(error, StatestreamError) else logging.ERROR
        log.log(level, "a reply could not be made or finished", exc_info=error)
