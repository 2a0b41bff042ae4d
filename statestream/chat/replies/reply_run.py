"""A run: the making of one reply, from a model's pieces to actions on the chat, through the tools that it calls.

One task reads the model and runs the tools, another one writes. Pieces are gathered for a short while and dispatched as
one request, the first at once, so that the cost of a reply does not depend on how finely the provider cuts it.

Invariants: however a reply ends, its text so far stays, and its last action says how it ended: complete, stopped, or
error with a sentence. An end is the arguments of the action `chat/ended`; its `kind` is stable and its message is a
sentence for people.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from statestream.chat.chats import owner_of
from statestream.chat.models import (
    CallPiece,
    Finish,
    Model,
    ModelFailed,
    Opaque,
    Piece,
    Reasoning,
    Refusal,
    Turn,
    Usage,
    provider_of,
)
from statestream.chat.replies.calls import Call
from statestream.chat.replies.measurements import Measurements
from statestream.chat.replies.model_calls import answering, tool_span
from statestream.chat.replies.reply_builder import ReplyBuilder
from statestream.chat.replies.tools import Tools
from statestream.chat.settings import Timeouts
from statestream.chat.slices import conversation, listing
from statestream.core.change import Action, new_id
from statestream.core.errors import Refused, Unavailable
from statestream.core.selection import Selection
from statestream.server import access_log
from statestream.server.log_line import line
from statestream.store import tracing
from statestream.store.slow_calls import Stepped
from statestream.store.tracing import Span
from statestream.store.view import StoreView

End = Mapping[str, Any]


def failed(kind: str, sentence: str) -> End:
    """An end with an error."""
    return {"status": "error", "error": {"kind": kind, "message": sentence}}


STOPPED: Final[End] = {"status": "stopped"}
INTERRUPTED: Final = failed("interrupted", "The reply was interrupted before it was done.")
BROKEN_OFF: Final = failed("failed", "The model stopped with an error.")
NOT_STORABLE: Final = failed("failed", "The model's answer cannot be stored.")
TRUNCATED: Final = failed("truncated", "The reply was cut short.")
DECLINED: Final = failed("refused", "The model declined to answer.")
EMPTY: Final = failed("empty", "The model said nothing.")
TIMED_OUT: Final = failed("timeout", "The model did not answer in time.")


async def end_reply(view: StoreView, key: str, reply: str, end: End) -> None:
    """Ends a reply that this node does not make itself. Raises Refused if it has ended already."""

    def actions() -> list[Action]:
        owner = conversation.optional(user=owner_of(view, key))
        ended = conversation.ended(key, reply=reply, **end, **owner)
        return [ended, *listing.updating(view, key, status=listing.IDLE)]

    await view.dispatch(await view.complete(actions))


log = logging.getLogger("statestream")

GATHER_SECONDS: Final = 0.03
PATIENCE_SECONDS: Final = 60.0
"""How long the journal may be unavailable before no more is read from the model."""
RETRY_SECONDS: Final = 0.25
MAX_STEPS: Final = 8
"""Steps of one reply: answers of the model, with tools run in between."""
PIECES_BETWEEN_PAUSES: Final = 64
"""After this many pieces other tasks get a turn, even if the model itself never waits."""
MAX_REASON: Final = 64


class Job(Struct, frozen=True, kw_only=True):
    """The reply to make, the owner of its chat, and the person who asks for it.

    `turns` gives what the model is to answer, read from the chat.
    """

    key: str
    reply: str
    user: str | None
    person: str | None
    turns: Callable[[], Awaitable[Sequence[Turn]]]


class ReplyRun:
    """Reads the model, runs the tools, and writes both into the chat until the reply has ended.

    `_news` is set when there is something to write, or the reader has ended; `_written` when nothing is left to write.
    """

    def __init__(self, view: StoreView, job: Job, model: Model, tools: Tools, timeouts: Timeouts) -> None:
        self._view, self._job, self._model, self._tools, self._timeouts = view, job, model, tools, timeouts
        self._builder = ReplyBuilder(job.key, job.reply, provider_of(model))
        self.measurements = Measurements()
        self._news, self._written = asyncio.Event(), asyncio.Event()
        self._reader: asyncio.Task[End] | None = None
        self._stop: End | None = None
        self.span: Span | None = None
        """Of the whole run, if it is traced."""
        self.outcome = "lost"
        """How the run ended: `complete`, `stopped`, the kind of an error, `elsewhere`, or `lost` if no end was stored.
        """

    @property
    def reply(self) -> str:
        return self._job.reply

    def report(self) -> None:
        """Logs the run in one line and ends its span, for those who want this. Is called when it has ended."""
        ids = {"chat": self._job.key, "reply": self.reply, "model": self._model.name}
        if access_log.is_on():
            figures = {**self.measurements.figures(), **self.measurements.usage}
            access_log.access.info(line("run", **ids, end=self.outcome, **figures))
        if self.span is not None:
            self.span.note(**ids, end=self.outcome)
            if self.outcome not in ("complete", "stopped", "elsewhere"):
                self.span.fail(self.outcome)
            self.span.end()

    def stop(self, end: End = INTERRUPTED) -> None:
        """Stops reading from the model. The pieces so far are written, and the reply ends as given."""
        self._stop = self._stop or end
        if self._reader is not None:
            self._reader.cancel()

    async def run(self) -> None:
        """Returns when the reply has ended and that is durable, however long the journal is unavailable."""
        release = self._view.hold(Selection(names=frozenset((conversation.name_of(self._job.key),))))
        reading = tracing.inside(self.span)
        reader = self._reader = asyncio.create_task(self._read(), name=f"chat reader of {self.reply}", context=reading)
        reader.add_done_callback(lambda _: self._news.set())
        if self._stop:
            reader.cancel()
        try:
            await self._write(reader)
            await self._end((self._stop or BROKEN_OFF) if reader.cancelled() else reader.result())
        except Refused:
            self.outcome = "elsewhere"
            log.info("the reply %s of chat %s has been ended from elsewhere", self._job.reply, self._job.key)
        except Exception:  # whatever it is, no reply may stay open
            log.exception("the answer of the model %s cannot be stored", self._model.name)
            reader.cancel()
            self.measurements.usage.clear()  # its numbers may be what cannot be stored
            await self._end(NOT_STORABLE)
        finally:
            release()
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    # writing

    async def _write(self, reader: asyncio.Task[End]) -> None:
        """Dispatches what has gathered, once per GATHER_SECONDS, until the reader has ended and nothing is left."""
        loop = asyncio.get_running_loop()
        while not reader.done() or self._builder:
            await self._news.wait()
            self._news.clear()
            began = loop.time()
            if actions := self._builder.take():
                await self._dispatch(lambda: actions)
            if not self._builder:
                self._written.set()
            if not reader.done():
                await asyncio.wait((reader,), timeout=max(0.0, GATHER_SECONDS - (loop.time() - began)))

    async def _end(self, end: End) -> None:
        usage = {"usage": self.measurements.usage} if self.measurements.usage else {}
        owner = conversation.optional(user=self._job.user)
        figures = self.measurements.figures()
        ended = conversation.ended(self._job.key, reply=self._job.reply, figures=figures, **usage, **owner, **end)
        key = self._job.key
        await self._dispatch(lambda: [ended, *listing.updating(self._view, key, status=listing.IDLE)], id=new_id())
        self.outcome = end["error"]["kind"] if "error" in end else end["status"]

    async def _dispatch(self, make: Callable[[], Sequence[Action]], id: str | None = None) -> None:
        """Tries until it succeeds. If the journal is unavailable for long, the run stops reading, but not trying."""
        give_up = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        actions: Sequence[Action] = ()
        while True:
            try:
                actions = actions or await self._view.complete(make)
                await self._view.dispatch(actions, id=id)
            except Unavailable:
                if asyncio.get_running_loop().time() > give_up:
                    self.stop()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    # reading

    async def _read(self) -> End:
        """How the reply is to end. Its pieces are left for the writer."""
        try:
            async with asyncio.timeout(self._timeouts.total):
                for _ in range(MAX_STEPS):
                    step = self._step(await self._job.turns())
                    end = await Stepped(step, self._view.slow_calls, "model", self._model.name)
                    if end is not None:
                        return end
                    await self._run_tools()
        except ModelFailed as failure:
            return failed(failure.kind, str(failure))
        except TimeoutError:
            return TIMED_OUT
        except Exception:
            log.exception("the model %s raised an unexpected exception", self._model.name)
            return BROKEN_OFF
        return failed("too_many_steps", f"The model called tools {MAX_STEPS} times without answering.")

    async def _step(self, turns: Sequence[Turn]) -> End | None:
        """How one answer of the model ended; None if it ended with tool calls."""
        finish, declined, count = None, False, 0
        loop = asyncio.get_running_loop()
        async with (
            asyncio.timeout(self._timeouts.first) as silence,
            answering(self._model, turns, self._tools.specs, chat=self._job.key) as pieces,
        ):
            async for piece in pieces:
                silence.reschedule(loop.time() + self._timeouts.idle)
                declined = declined or isinstance(piece, Refusal)
                finish = piece if isinstance(piece, Finish) else finish
                self._take(piece)
                count += 1
                if count % PIECES_BETWEEN_PAUSES == 0:
                    await asyncio.sleep(0)
                if self._stop is not None:  # the model may have swallowed the cancellation
                    raise asyncio.CancelledError
        if finish is None:
            return TRUNCATED
        if declined:
            return DECLINED
        if self._builder.calling:
            return None
        if self._builder.empty:
            return EMPTY
        reason = finish.reason.encode(errors="replace").decode()[:MAX_REASON]
        return {"status": "complete", "finish_reason": reason}

    def _take(self, piece: Piece) -> None:
        if isinstance(piece, Finish):
            return
        if isinstance(piece, Usage):
            self.measurements.add(piece)
            return
        if isinstance(piece, Opaque):
            self._builder.opaque(piece.data)
            self._news.set()
            return
        self.measurements.piece()
        if isinstance(piece, str):
            self._builder.text("text", piece)
        elif isinstance(piece, CallPiece):
            self._builder.call(piece)
        elif isinstance(piece, Reasoning):
            self._builder.text("reasoning", piece.text)
        else:
            self._builder.text("text", piece.text)
        self._news.set()

    async def _run_tools(self) -> None:
        """Runs the tools that were called, all at once. Returns when every outcome is in the chat."""
        calls = self._builder.called()
        self._news.set()
        async with asyncio.TaskGroup() as running:
            for part, call in calls.items():
                running.create_task(self._run_tool(part, call))
        self._written.clear()
        self._news.set()
        await self._written.wait()  # the next step reads its turns from the chat

    async def _run_tool(self, part: int, call: Call) -> None:
        with tool_span(call.name, call.id, self._tools.specs) as span:
            outcome = await self._tools.run(call.name, call.arguments, self._timeouts.tool, self._view.slow_calls)
            if span is not None and "error" in outcome:
                span.fail("tool_error")
        self._builder.returned(part, outcome)
        self._news.set()
