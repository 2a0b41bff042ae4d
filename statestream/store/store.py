"""The heart: dispatch → reduce → append → announce.

The writer takes every waiting request, runs them on drafts, appends what they change in one batch,
then swaps the committed state, announces it and answers the callers, in that order and without an
await in between. While an append waits for the disk, new requests gather: that is the group commit.

Invariants: one lock owns the committed state; whoever holds it, writer or follower, is the only one that
changes it. Readers see committed state only, and never wait. Every request is answered, one way or
another; what became of it is unknown only where the answer says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Self

from msgspec import Struct, field
from msgspec.structs import replace

from statestream import journal as journals
from statestream.core.change import (
    Action,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    PendingChange,
    Position,
    Result,
    SliceState,
    new_id,
    now_ms,
)
from statestream.core.errors import (
    ActionIdReused,
    Conflict,
    Duplicate,
    Expired,
    Forked,
    Malformed,
    StatestreamError,
    Unavailable,
)
from statestream.core.names import check_id, check_key, split_name
from statestream.core.slices import Slice
from statestream.journal.contract import Appended, Entry, Journal
from statestream.store.bus import Bus, Each
from statestream.store.node_state import NodeState
from statestream.store.transaction import HandlerRegistry, Request, Transaction, accept

log = logging.getLogger("statestream")

MAX_BATCH: Final = 256
MAX_WAITING: Final = 10_000
MAX_ATTEMPTS: Final = 100
RETRY_SECONDS: Final = 1.0
FOLLOW_SECONDS: Final = 0.01
"""How long a node that is writing itself leaves others' changes unread: its own appends read them anyway."""


class _Pending(Struct, kw_only=True, eq=False):
    """A request under way, and the future that its callers wait for."""

    request: Request
    future: asyncio.Future[Result]
    effects: list[PendingChange] = field(default_factory=list)
    error: StatestreamError | None = None

    def answer(self, result: Result) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def fail(self, error: StatestreamError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # a caller that went away must not make the loop complain


class Store:
    """Keeps slices, applies actions, remembers all of it in a journal.

    `journal` is a URL (`memory:`, `sqlite:///board.db`) or a Journal. Use it as `async with store:`, or
    give it to `create_app`, which does so.
    """

    def __init__(self, slices: Iterable[Slice], *, journal: str | Journal = "memory:") -> None:
        self.rules = HandlerRegistry(slices)
        self.bus = Bus()
        self._committed = NodeState(journals.of(journal) if isinstance(journal, str) else journal, self.bus)
        self.slices: Mapping[str, SliceState] = MappingProxyType(self._committed.slices)
        self._waiting: deque[_Pending] = deque()
        self._under_way: dict[IdempotencyKey, _Pending] = {}
        self._asking: list[asyncio.Future[Position]] = []
        self._wanted = asyncio.Event()
        self._lock = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def journal(self) -> Journal:
        """Where the changes are kept. Another one may be set until the store is opened."""
        return self._committed.journal

    @journal.setter
    def journal(self, journal: Journal) -> None:
        if self._tasks:
            raise RuntimeError("expected a store that is not open yet")
        self._committed.journal = journal

    @property
    def position(self) -> Position:
        """How far this node's state has got."""
        return self._committed.position

    async def __aenter__(self) -> Self:
        """Opens the journal, loads the state, appends the initial values that are missing. Raises JournalUnusable."""
        if self._tasks:
            raise RuntimeError("expected a store that is not open yet")
        await self.journal.open()
        try:
            await self._committed.load()
            await self._committed.begin(self.rules)
        except BaseException:
            await self.journal.close()
            raise
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._follow())]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Answers what is under way, keeps a checkpoint, closes the journal."""
        tasks, self._tasks = self._tasks, []
        try:
            async with self._lock:
                while self._waiting or self._asking:
                    await self._round()
            await self._committed.checkpoint(due=1)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.journal.close()

    async def dispatch(
        self,
        action: Action | Sequence[Action],
        *,
        id: str | None = None,
        actor: str | None = None,
        expect: Mapping[str, int] | None = None,
    ) -> Result:
        """Makes the action, or several as one, take effect; returns when that is durable and announced.

        `id` makes it idempotent for `actor`: a repeat within 24 hours is answered with the first result.
        `expect` ({slice: version}) makes it conditional. Raises Malformed, UnknownAction, UnknownSlice,
        InvalidPayload, Refused, VersionConflict, ActionIdReused, HandlerFailed, and Unavailable: then the
        outcome is unknown, and trying again with the same id is safe.
        """
        request = self._accept([action] if isinstance(action, Action) else action, id, actor, expect or {})
        first = self._under_way.get(request.key) if request.remembered else None
        if first is not None:
            self._same_content(request, first.request.digest)
            return replace(await asyncio.shield(first.future), duplicate=True)
        return await self._answered(request)

    async def caught_up(self) -> Position:
        """Returns when this node has read what the journal held when it was asked, and gives how far that is.

        For who is about to say that something is not there: another node may have written it. Those who ask at the same
        time share the reading. Raises Unavailable.
        """
        self._check_open()
        asking: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._asking.append(asking)
        self._wanted.set()
        return await asking

    def _check_open(self) -> None:
        if not self._tasks:
            raise Unavailable("expected an open store; use `async with store:` or serve it")

    async def _answered(self, request: Request) -> Result:
        self._check_open()
        if len(self._waiting) >= MAX_WAITING:
            raise Unavailable(f"expected at most {MAX_WAITING} requests waiting for the journal; try again later")
        pending = _Pending(request=request, future=asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._wanted.set()
        if request.remembered:
            self._under_way[request.key] = pending
            pending.future.add_done_callback(lambda _: self._under_way.pop(request.key, None))
            return await asyncio.shield(pending.future)  # others may join it, whom this caller must not cancel
        return await pending.future

    def get(self, name: str) -> Any:
        """The committed value of a slice or instance; None where it does not exist. Never to be mutated."""
        state = self.slices.get(name)
        return None if state is None else state.value

    def on_change(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Calls `listener` with every change, in order, once it is committed. Gives a function that ends it."""
        return self.bus.subscribe(Each(listener))

    def _accept(
        self, actions: Sequence[Action], id: str | None, actor: str | None, expect: Mapping[str, int]
    ) -> Request:
        for action in actions:
            self.rules.of(action)
            if action.key is not None:
                check_key(action.key)
        for name, version in expect.items():
            self.rules.check_slice(*split_name(name))
            if type(version) is not int or version < 0:
                raise Malformed("expected versions that are whole numbers of at least 0 in `expect`")
        return accept(
            actions,
            id=check_id(id) if id is not None else new_id(),
            remembered=id is not None,
            actor=actor,
            at=now_ms(),
            expect=expect,
        )

    # the writer

    async def _write(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            async with self._lock:
                while self._waiting or self._asking:
                    await self._round()

    async def _look(self) -> None:
        """Answers who wants to know what others have written."""
        asking, self._asking = self._asking, []
        try:
            await self._committed.catch_up()
        except StatestreamError as error:
            log.info("what other nodes have written could not be read: %s", error)
        except Exception:
            log.exception("what other nodes have written could not be read")
        else:
            for one in asking:
                if not one.done():
                    one.set_result(self.position)
        finally:
            for one in asking:
                if not one.done():
                    one.set_exception(Unavailable("the journal cannot be read now; try again"))

    async def _round(self) -> None:
        """Answers a batch of what is waiting, one way or another."""
        if self._asking:
            await self._look()
        if not self._waiting:
            return
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
        try:
            if self._committed.stale:
                await self._committed.catch_up()
            await self._commit(list(batch))
            await self._committed.checkpoint(due=self.journal.retention.checkpoint)
        except StatestreamError as error:
            log.warning("requests were answered that their outcome is unknown: %s", error)
            self._lost(batch, Unavailable("the outcome is unknown, try again with the same id"))
        except Exception:
            log.exception("the writer failed; the journal is read before the next batch")
            self._lost(batch, Unavailable("the outcome is unknown, try again with the same id"))
        except asyncio.CancelledError:
            self._lost(batch, Unavailable("the store was closed, try again with the same id"))
            raise

    def _lost(self, batch: Sequence[_Pending], error: Unavailable) -> None:
        for pending in batch:
            pending.fail(error)

    async def _commit(self, batch: list[_Pending]) -> None:
        """Runs, appends, applies, announces, answers; again from the start as often as another node was first."""
        looked = False
        for _ in range(MAX_ATTEMPTS):
            working = Transaction(self.rules, self.slices)
            for pending in batch:
                self._run(working, pending)
            if not looked and not all(pending.effects for pending in batch):
                looked, before = True, self.position
                await self._committed.catch_up()  # before anyone is told no, or that nothing changed
                if self.position != before:
                    continue
            await self._answer_repeats(batch)
            written = [p for p in batch if not p.error and (p.effects or p.request.remembered)]
            try:
                outcomes = await self._append(working, written)
            except Duplicate as duplicate:
                await self._answer_duplicates(batch, duplicate.records)
            except Conflict:
                await self._committed.catch_up()
            except (Forked, Expired):
                await self._committed.load()
            else:
                self._finish(batch, dict(zip(written, outcomes, strict=True)))
                return
        raise Unavailable(f"other nodes were first {MAX_ATTEMPTS} times in a row; try again later")

    def _run(self, working: Transaction, pending: _Pending) -> None:
        pending.effects, pending.error = [], None
        try:
            pending.effects = working.run(pending.request)
        except StatestreamError as error:
            pending.error = error

    async def _answer_repeats(self, batch: list[_Pending]) -> None:
        """A request that fails now may have succeeded before: then it is a duplicate, whatever the state says today."""
        failed = [p.request.key for p in batch if p.error and p.request.remembered]
        records = await self.journal.lookup(failed) if failed else {}
        if records:
            await self._answer_duplicates(batch, records)

    async def _answer_duplicates(
        self, batch: list[_Pending], records: Mapping[IdempotencyKey, IdempotencyRecord]
    ) -> None:
        """Answers what is done already, once it shows on this node too, and takes it out of the batch."""
        await self._committed.catch_up()
        for pending in tuple(batch):
            record = records.get(pending.request.key) if pending.request.remembered else None
            if record is None:
                continue
            batch.remove(pending)
            try:
                self._same_content(pending.request, record.digest)
            except ActionIdReused as error:
                pending.fail(error)
            else:
                pending.answer(
                    Result(id=pending.request.id, position=record.position, duplicate=True, changes=record.changes)
                )

    def _same_content(self, request: Request, digest: bytes) -> None:
        if request.digest != digest:
            raise ActionIdReused(
                "expected a new id for a new request, got one that stands for another; take a fresh one"
            )

    async def _append(self, working: Transaction, written: Sequence[_Pending]) -> list[Appended]:
        if not written:
            return []
        entries = [
            Entry(
                idempotency_key=p.request.key if p.request.remembered else None,
                digest=p.request.digest,
                effects=tuple(p.effects),
                at=p.request.at,
            )
            for p in written
        ]
        return await self._committed.append(entries, working.based_on, working.value)

    def _finish(self, batch: Sequence[_Pending], outcomes: Mapping[_Pending, Appended]) -> None:
        for pending in batch:
            if pending.error:
                pending.fail(pending.error)
                continue
            outcome = outcomes.get(pending) or Appended(position=self.position, changes=())
            pending.answer(
                Result(
                    id=pending.request.id,
                    position=outcome.position,
                    duplicate=False,
                    changes=tuple((change.slice, change.version) for change in outcome.changes),
                )
            )

    async def _follow(self) -> None:
        """Applies what other nodes write while this one is idle."""
        while True:
            try:
                seen = self.position
                await self.journal.wait(seen)
                if self.position != seen:
                    await asyncio.sleep(FOLLOW_SECONDS)
                    continue
                async with self._lock:
                    if self.position == seen:
                        await self._committed.catch_up()
            except StatestreamError as error:
                log.warning("the journal cannot be followed, trying again in %s s: %s", RETRY_SECONDS, error)
                await asyncio.sleep(RETRY_SECONDS)
            except Exception:
                log.exception("following the journal failed, trying again in %s s", RETRY_SECONDS)
                await asyncio.sleep(RETRY_SECONDS)
