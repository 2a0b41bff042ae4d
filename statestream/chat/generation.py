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
        self._saying, self._said = "", 0
        self._news = asyncio.Event()
        self._over = False

    async def run(self, turns: Sequence[Turn]) -> None:
        """Ends when the reply has. Cancelled, it ends the reply as interrupted."""
        reader, writer = asyncio.create_task(self._read(turns)), asyncio.create_task(self._write())
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            self._over = reader.done()
            self._news.set()
            await writer
            end = reader.result()
        except asyncio.CancelledError:
            await _stop(reader, writer)
            await self._say_pieces()
            await self._end(_error("interrupted", "The server stopped before the reply was done."))
            raise
        except (Refused, Unavailable):
            raise  # ended or removed by another hand; or the journal has been down for too long
        except Exception:
            log.exception("a piece of the model %s could not be kept", self._model.name)
            end = _error("failed", "The model said something that cannot be kept.")
        finally:
            await _stop(reader, writer)
        await self._end(end)

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
                        self._pieces.append(piece.encode(errors="replace").decode())
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
        return {"status": "complete", "finish_reason": finish.reason}

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._over or self._pieces:
            await self._news.wait()
            self._news.clear()
            began = loop.time()
            await self._say_pieces()
            if not self._over:
                await asyncio.sleep(GATHER_SECONDS - (loop.time() - began))

    async def _say_pieces(self) -> None:
        """What was read and not said, as the next chunk; what was being said when cancelled is said again."""
        while self._saying or self._pieces:
            if not self._saying:
                self._saying = "".join(self._pieces)
                self._pieces.clear()
            await self._say(chat.grew(self._key, reply=self._reply, index=self._said, text=self._saying))
            self._said += 1
            self._saying = ""

    async def _end(self, end: Mapping[str, Any]) -> None:
        await self._say(chat.ended(self._key, reply=self._reply, **end), id=secrets.token_urlsafe(9))

    async def _say(self, action: Action, id: str | None = None) -> None:
        """Dispatches, and tries again for a minute while the journal is down: what the model said is not lost."""
        give_up = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            try:
                await self._store.dispatch(action, id=id)
            except Unavailable:
                if asyncio.get_running_loop().time() > give_up:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return


async def _stop(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _error(kind: str, sentence: str) -> dict[str, Any]:
    return {"status": "error", "error": {"kind": kind, "message": sentence}}


class Generations:
    """The replies that this process makes. Started ones are awaited in `close`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._asking: set[asyncio.Task[Any]] = set()
        self._closed = False

    def start(self, generation: Generation, turns: Sequence[Turn]) -> None:
        self._own(generation.run(turns), self._tasks)

    async def owned(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that goes on when its caller is cancelled. Raises Unavailable once closed."""
        if self._closed:
            work.close()
            raise Unavailable("the server is stopping; ask again in a moment")
        return await asyncio.shield(self._own(work, self._asking))

    def _own(self, work: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(_look)
        return task

    async def close(self) -> None:
        """Ends what is being made; each reply keeps its text and is marked as interrupted."""
        self._closed = True
        await asyncio.gather(*self._asking, return_exceptions=True)
        await _stop(*self._tasks)


def _look(task: asyncio.Task[Any]) -> None:
    """Nobody may be waiting for the task: what went wrong is logged. A Refused is an answer, not a failure."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Refused):
        level = logging.WARNING if isinstance(error, StatestreamError) else logging.ERROR
        log.log(level, "a reply could not be made or finished", exc_info=error)
