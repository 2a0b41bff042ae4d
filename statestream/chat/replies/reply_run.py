"""A run: the making of one reply, from the pieces that its reader takes in to actions on the chat.

One task reads, another one writes. Pieces are gathered for a short while and dispatched as one request, the first at
once, so that the cost of a reply does not depend on how finely they are cut.

Invariants: however a reply ends, its text so far stays, and its last action says how it ended: complete, stopped, or
error with a sentence. A run also ends when its reply waits for people; another run then continues the reply.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from msgspec import Struct

from statestream.chat.prices import Spending
from statestream.chat.provisions import NONE, Provisions
from statestream.chat.replies.ends import (
    BROKEN_OFF,
    INTERRUPTED,
    NOT_STORABLE,
    STOPPED,
    TIMED_OUT,
    WAITING,
    End,
    ending,
)
from statestream.chat.replies.grace import GRACE_SECONDS, mark_as_retrieved
from statestream.chat.replies.intake import Intake
from statestream.chat.replies.measurements import Measurements
from statestream.chat.replies.reply_builder import ReplyBuilder
from statestream.chat.replies.run_queue import Place
from statestream.chat.slices import conversation, data
from statestream.core.change import Action, new_id
from statestream.core.errors import Refused, Unavailable
from statestream.core.principal import Identity
from statestream.core.selection import Selection
from statestream.server import access_log
from statestream.server.log_line import line
from statestream.store import tracing
from statestream.store.tracing import Span
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

GATHER_SECONDS: Final = 0.03
PATIENCE_SECONDS: Final = 60.0
"""How long the journal may be unavailable before no more is read."""
RETRY_SECONDS: Final = 0.25


class Reader(Protocol):
    """Who makes the pieces of a reply."""

    async def read(self, intake: Intake) -> End:
        """Takes the pieces in. Returns how the reply is to end, whatever happens."""


class Job(Struct, frozen=True, kw_only=True):
    """The reply to make, the owner of its chat, and the person who asks for it.

    `run` is the id of this run, `by` the person who asked, `brought` what their question brings. `maker` is the name of
    the model or agent, `provider` the provider whose opaque data is kept.
    """

    key: str
    reply: str
    run: str
    maker: str
    provider: str | None
    user: str | None
    by: Identity | None
    brought: Provisions = NONE


class ReplyRun:
    """Has a reader read, and writes what comes of it into the chat until the reply has ended.

    `builder` has the reply so far. The reader begins once `place` is its turn. `seconds`: how long it may read from
    then on. A reader that does not end after being cancelled is abandoned.
    """

    def __init__(
        self,
        view: StoreView,
        job: Job,
        builder: ReplyBuilder,
        reader: Reader,
        place: Place,
        spending: Spending,
        seconds: float,
    ) -> None:
        self._view, self._job, self._source, self._seconds = view, job, reader, seconds
        self.place = place
        self._late: asyncio.TimerHandle | None = None
        self._intake = Intake(builder, spending)
        if builder:
            self._intake.news.set()
        self._reader: asyncio.Task[End] | None = None
        self._stop: End | None = None
        self._left = False
        """Whether nobody waits for the reader any more."""
        self.span: Span | None = None
        """Of the whole run, if it is traced."""
        self.outcome = "lost"
        """How the run ended: `complete`, `waiting`, `stopped`, the kind of an error, `elsewhere`, or `lost`: without an
        end that is stored.
        """

    @property
    def reply(self) -> str:
        return self._job.reply

    @property
    def maker(self) -> str:
        return self._job.maker

    @property
    def measurements(self) -> Measurements:
        return self._intake.measurements

    def report(self) -> None:
        """Logs the run in one line and ends its span, for those who want this. Is called when it has ended."""
        ids = {"chat": self._job.key, "reply": self.reply, "model": self._job.maker}
        if access_log.is_on():
            figures = {**self.measurements.figures(), **self.measurements.usage}
            cost = self.measurements.spending.cost
            access_log.access.info(line("run", **ids, end=self.outcome, **figures, cost=cost))
        if self.span is not None:
            self.span.note(**ids, end=self.outcome)
            if self.outcome not in ("complete", "waiting", "stopped", "elsewhere"):
                self.span.fail(self.outcome)
            self.span.end()

    def stop(self, end: End = INTERRUPTED) -> None:
        """Stops reading. The pieces so far are written, and the reply ends as given."""
        self._stop = self._stop or end
        self.abandon()

    def abandon(self) -> None:
        """Stops reading, because the reply has ended or waits."""
        if not self._intake.stopping:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, self._leave)
        self._intake.stopping = True
        if self._reader is not None:
            self._reader.cancel()

    def _leave(self) -> None:
        """Waits no longer for a reader that was cancelled."""
        if self._reader is not None and not self._reader.done():
            log.error("%s does not end although it was cancelled; nothing waits for it any more", self._job.maker)
            self._left = True
            # nor does the event loop, when the server ends
            asyncio._unregister_task(self._reader)  # noqa: SLF001 - documented, for tasks that end in their own way
            self._intake.news.set()

    async def run(self) -> None:
        """Returns when the reply has ended and that is durable, however long the journal is unavailable."""
        release = self._view.hold(Selection(names=frozenset((conversation.name_of(self._job.key),))))
        reading, name = tracing.inside(self.span), f"chat reader of {self.reply}"
        reader = self._reader = asyncio.create_task(self._read(), name=name, context=reading)
        reader.add_done_callback(self._has_read)
        if self._intake.stopping:
            reader.cancel()
        try:
            await self._write(reader)
            await self._forget()
            read = reader.done() and not reader.cancelled()
            end = reader.result() if read else self._stop or BROKEN_OFF
            await self._end(end)
            if end == WAITING and self._stop == STOPPED:  # somebody has stopped it at the last moment
                await self._end(self._stop)
        except Refused:
            self.outcome = "elsewhere"
            log.info("the reply %s of chat %s has been ended from elsewhere", self._job.reply, self._job.key)
        except Exception:  # whatever it is, no reply may stay open
            log.exception("the answer of %s cannot be stored", self._job.maker)
            reader.cancel()
            self._intake.spending.forget()  # its numbers may be what cannot be stored
            await self._end(NOT_STORABLE)
        finally:
            release()
            if self._late is not None:
                self._late.cancel()
            reader.cancel()
            self._intake.stopping = True
            await asyncio.wait((reader,), timeout=0 if self._left else GRACE_SECONDS)
            reader.add_done_callback(mark_as_retrieved)

    def _has_read(self, _: asyncio.Task[End]) -> None:
        """Nothing more is read: nested runs that nobody awaits end here, too."""
        self._intake.stopping = True
        self._intake.news.set()

    async def _read(self) -> End:
        await self.place.turn()
        if self.place.waited:  # even if its turn came before the chat has said so
            self._intake.begin()
        # for a reader that does not keep the limit itself
        self._late = asyncio.get_running_loop().call_later(self._seconds + GRACE_SECONDS, self.stop, TIMED_OUT)
        try:
            return await self._source.read(self._intake)
        except SystemExit:  # in a task of the event loop it would end the server
            log.exception("%s tried to end the process", self._job.maker)
            return BROKEN_OFF

    async def _write(self, reader: asyncio.Task[End]) -> None:
        """Dispatches what has gathered, once per GATHER_SECONDS, until the reader has ended and nothing is left."""
        loop, intake = asyncio.get_running_loop(), self._intake
        while not (reader.done() or self._left) or intake.builder:
            await intake.news.wait()
            intake.news.clear()
            began = loop.time()
            if actions := intake.builder.take():
                await self._dispatch(lambda: actions)
            if not intake.builder:
                intake.written.set()
            if not (reader.done() or self._left):
                await asyncio.wait((reader,), timeout=max(0.0, GATHER_SECONDS - (loop.time() - began)))

    async def _forget(self) -> None:
        """Removes transient data, once viewers have had time to look: it would stay in what the journal folds."""
        if self._intake.builder.told:
            await asyncio.sleep(GATHER_SECONDS)
            await self._dispatch(lambda: [data.untold(self._job.key, reply=self.reply)])

    async def _end(self, end: End) -> None:
        spending = self._intake.spending
        usage: dict[str, Any] = conversation.optional(usage=spending.usage or None, cost=spending.cost)
        job = self._job
        owner = conversation.optional(user=job.user)  # this node may not have read the chat that it has created
        more: dict[str, Any] = {"figures": self.measurements.figures(), "run": job.run, **usage, **owner}
        make = partial(ending, self._view, job.key, self.reply, end, asker=job.by, brought=job.brought, **more)
        await self._dispatch(make, id=new_id())
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
