"""One reply in the making: from a model's pieces to actions on the chat, through the tools that it calls.

Pieces are gathered for a frame's time and dispatched as one request, the first at once, so that what a reply costs
does not depend on how finely the provider cuts it.

Invariants: a reply belongs to the server, never to a request. However it ends, its text so far stays, and its last
action says how: complete, stopped, or error with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from statestream.chat import conversation as chat
from statestream.chat.models import (
    CallPiece,
    Finish,
    Model,
    ModelFailed,
    Piece,
    Reasoning,
    Refusal,
    Turn,
    Usage,
    answering,
)
from statestream.chat.reply_builder import Call, ReplyBuilder
from statestream.chat.tools import Tools
from statestream.core.change import Action, new_id
from statestream.core.errors import Refused, Unavailable
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

GATHER_SECONDS: Final = 0.03
PATIENCE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 0.25
MAX_STEPS: Final = 8
"""Answers of the model in one reply; between two of them tools are run."""
TURN_PIECES: Final = 64
"""After so many pieces others have their turn, also where the model itself never waits."""
MAX_REASON: Final = 64


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds until a reply is given up: for a model's first piece, between two, and in all; and for each tool."""

    first: float = 60.0
    idle: float = 60.0
    total: float = 300.0
    tool: float = 30.0


class Job(Struct, frozen=True, kw_only=True):
    """The reply to make, for whom; `turns` reads what the model is given from the chat as it is then."""

    key: str
    reply: str
    user: str | None
    turns: Callable[[], Sequence[Turn]]


def failed(kind: str, sentence: str) -> dict[str, Any]:
    """An end with an error."""
    return {"status": "error", "error": {"kind": kind, "message": sentence}}


INTERRUPTED: Final = failed("interrupted", "The reply was interrupted before it was done.")
STOPPED: Final = {"status": "stopped"}
BROKEN_OFF: Final = failed("failed", "The model broke off with an error.")
UNKEPT: Final = failed("failed", "The model said something that cannot be kept.")


class Generation:
    """Reads the model, runs the tools, and writes both into the chat, until the reply is over."""

    def __init__(self, store: StoreView, job: Job, model: Model, tools: Tools, timeouts: Timeouts) -> None:
        self._store, self._job, self._model, self._tools, self._timeouts = store, job, model, tools, timeouts
        self._builder = ReplyBuilder(job.key, job.reply)
        self._news, self._said = asyncio.Event(), asyncio.Event()
        self._reader: asyncio.Task[Mapping[str, Any]] | None = None
        self._stop: Mapping[str, Any] | None = None
        self._usage: dict[str, int] = {}
        self._began = asyncio.get_running_loop().time()
        self._first: float | None = None
        self._pieces = 0

    @property
    def reply(self) -> str:
        return self._job.reply

    def stop(self, how: Mapping[str, Any] = INTERRUPTED) -> None:
        """No more is read from the model; what was read is written, and the reply ends that way."""
        self._stop = self._stop or how
        if self._reader is not None:
            self._reader.cancel()

    async def run(self) -> None:
        """Ends when the reply has, and that is written down, however long the journal is away."""
        reader = self._reader = asyncio.create_task(self._read())
        reader.add_done_callback(lambda _: self._news.set())
        if self._stop:
            reader.cancel()
        try:
            await self._write(reader)
            await self._end((self._stop or BROKEN_OFF) if reader.cancelled() else reader.result())
        except Refused:
            log.info("the reply %s of chat %s was ended by another hand", self._job.reply, self._job.key)
        except Exception:  # whatever it is, no reply stays open
            log.exception("what the model %s said cannot be kept", self._model.name)
            reader.cancel()
            self._usage.clear()  # numbers may be what cannot be kept
            await self._end(UNKEPT)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    # what is written

    async def _write(self, reader: asyncio.Task[Any]) -> None:
        """Says what was read, once for each frame's time, until the reader is done and all is said."""
        loop = asyncio.get_running_loop()
        while not reader.done() or self._builder:
            await self._news.wait()
            self._news.clear()
            began = loop.time()
            if actions := self._builder.take():
                await self._say(actions)
            if not self._builder:
                self._said.set()
            if not reader.done():
                await asyncio.wait((reader,), timeout=max(0.0, GATHER_SECONDS - (loop.time() - began)))

    async def _end(self, end: Mapping[str, Any]) -> None:
        usage = {"usage": self._usage} if self._usage else {}
        user = {} if self._job.user is None else {"user": self._job.user}
        ended = chat.ended(self._job.key, reply=self._job.reply, figures=self._figures(), **usage, **user, **end)
        await self._say([ended], id=new_id())

    def _figures(self) -> dict[str, float]:
        """Milliseconds the run took and until the first piece came, pieces, and tokens a second from then on."""
        now = asyncio.get_running_loop().time()
        figures: dict[str, float] = {"duration_ms": round((now - self._began) * 1000), "pieces": self._pieces}
        if self._first is not None:
            figures["first_piece_ms"] = round((self._first - self._began) * 1000)
            if "output" in self._usage and now > self._first:
                figures["tokens_per_second"] = round(self._usage["output"] / (now - self._first), 1)
        return figures

    async def _say(self, actions: Sequence[Action], id: str | None = None) -> None:
        """Dispatches until it is done. A journal that is away for a minute ends the reading, not the trying."""
        give_up = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            try:
                await self._store.dispatch(actions, id=id)
            except Unavailable:
                if asyncio.get_running_loop().time() > give_up:
                    self.stop()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    # what is read

    async def _read(self) -> Mapping[str, Any]:
        """How the model ended; its pieces are left for the writer."""
        try:
            async with asyncio.timeout(self._timeouts.total):
                for _ in range(MAX_STEPS):
                    end = await self._answer(self._job.turns())
                    if end is not None:
                        return end
                    await self._run_tools()
        except ModelFailed as failure:
            return failed(failure.kind, str(failure))
        except TimeoutError:
            return failed("timeout", "The model has not answered in time.")
        except Exception:
            log.exception("the model %s raised what a model should not", self._model.name)
            return BROKEN_OFF
        return failed("too_many_steps", f"The model called tools {MAX_STEPS} times without an answer.")

    async def _answer(self, turns: Sequence[Turn]) -> Mapping[str, Any] | None:
        """How one answer of the model ended; None where it ended with calls of tools."""
        finish, refused, count = None, False, 0
        loop = asyncio.get_running_loop()
        async with (
            asyncio.timeout(self._timeouts.first) as silence,
            answering(self._model, turns, self._tools.specs) as pieces,
        ):
            async for piece in pieces:
                silence.reschedule(loop.time() + self._timeouts.idle)
                refused = refused or isinstance(piece, Refusal)
                finish = piece if isinstance(piece, Finish) else finish
                self._take(piece)
                count += 1
                if count % TURN_PIECES == 0:
                    await asyncio.sleep(0)
                if self._stop is not None:  # a model may have swallowed that it was cancelled
                    raise asyncio.CancelledError
        if finish is None:
            return failed("truncated", "The reply was cut short.")
        if refused:
            return failed("refused", "The model declined to answer.")
        if self._builder.calling:
            return None
        if self._builder.empty:
            return failed("empty", "The model said nothing.")
        reason = finish.reason.encode(errors="replace").decode()[:MAX_REASON]
        return {"status": "complete", "finish_reason": reason}

    def _take(self, piece: Piece) -> None:
        if isinstance(piece, Finish):
            return
        if isinstance(piece, Usage):
            for name, tokens in asdict(piece).items():
                self._usage[name] = self._usage.get(name, 0) + tokens
            return
        if self._first is None:
            self._first = asyncio.get_running_loop().time()
        self._pieces += 1
        if isinstance(piece, CallPiece):
            self._builder.call(piece)
        elif isinstance(piece, Reasoning):
            self._builder.text("reasoning", piece.text)
        else:
            self._builder.text("text", piece if isinstance(piece, str) else piece.text)
        self._news.set()

    async def _run_tools(self) -> None:
        """Runs what was called, all at once; returns when every outcome stands in the chat."""
        calls = self._builder.called()
        self._news.set()
        async with asyncio.TaskGroup() as running:
            for part, call in calls.items():
                running.create_task(self._run_tool(part, call))
        self._said.clear()
        self._news.set()
        await self._said.wait()

    async def _run_tool(self, part: int, call: Call) -> None:
        outcome = await self._tools.run(call.name, call.arguments, self._timeouts.tool)
        self._builder.returned(part, outcome)
        self._news.set()
