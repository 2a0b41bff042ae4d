"""The commit loop: run → append → apply → announce → answer.

The writer takes the waiting requests, runs them in a transaction, and appends what they change in one batch. Then it
swaps the committed state, announces the changes and answers the callers, in that order and without an await in between.
While an append waits for the disk, new requests gather: that is group commit. A bulk request runs in portions, between
which small requests are committed.

Invariants: one lock owns the committed state. Whoever holds it is the only one that changes it: the commit loop, or the
loop that reads what other nodes have written. Every request is answered, one way or another; its outcome is unknown
only if the answer says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic, perf_counter
from typing import Final

from msgspec.structs import replace

from statestream.core.allowances import Allowances
from statestream.core.change import IdempotencyKey, IdempotencyRecord, Position, Result
from statestream.core.errors import ActionIdReused, Expired, Forked, StatestreamError, Unavailable
from statestream.journal.contract import Appended, Conflict, Duplicate, Entry
from statestream.store import tracing
from statestream.store.bulk import BulkRun
from statestream.store.node_state import NodeState
from statestream.store.pause import Pause
from statestream.store.pending import Pending
from statestream.store.registry import HandlerRegistry
from statestream.store.slow_calls import SlowCalls
from statestream.store.tracing import Span
from statestream.store.transaction import Request, Transaction

log = logging.getLogger("statestream")

MAX_BATCH: Final = 256
MAX_BATCH_ACTIONS: Final = 1_000
"""A batch runs without a pause, so it ends at either of these limits."""
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 64 << 20
MAX_ATTEMPTS: Final = 100
RETRY_SECONDS: Final = 1.0
RECOVERED_SECONDS: Final = 7.0
"""Longer than any attempt to follow the journal takes to fail, with the pause before it."""
FOLLOW_SECONDS: Final = 0.01
"""How long a node that is writing itself leaves others' changes unread. Its own appends read them anyway."""
UNKNOWN_OUTCOME: Final = "the outcome is unknown; try again with the same id"


class Writer:
    """The requests of one node on their way into the journal. `run` and `follow` are its tasks."""

    def __init__(self, registry: HandlerRegistry, state: NodeState, slow_calls: SlowCalls) -> None:
        self._registry, self._state, self._slow_calls = registry, state, slow_calls
        self._waiting: deque[Pending] = deque()
        self._waiting_bulk: deque[Pending] = deque()
        self._waiting_bytes = 0
        self._bulk: BulkRun | None = None
        """The bulk request that has run in part."""
        self._pause = Pause()
        """Since the last portion of a bulk request, which took `_bulk_seconds`."""
        self._bulk_seconds = 0.0
        self._in_progress: dict[IdempotencyKey, Pending] = {}
        self._catching_up: list[asyncio.Future[Position]] = []
        self._wanted = asyncio.Event()
        self._recovery: asyncio.TimerHandle | None = None
        self.creations: Allowances | None = None
        """How many instances each identity may create; None means no limit."""

    async def submit(self, request: Request) -> Result:
        """Returns when the request is durable and announced. Raises what it is to be answered with."""
        if away := self._away(request):
            await self._state.fetch(away)  # here and not in a batch, so that the others of the batch need not wait
        if request.idempotent and request.key in self._in_progress:
            return replace(await asyncio.shield(self._join(request)), duplicate=True)
        if request.idempotent:  # repeats may join it: cancelling this caller must not cancel them
            return await asyncio.shield(self._accept(request))
        return await self._accept(request)

    # A coroutine has no future that it awaits in a variable: it may have an error, whose traceback has the coroutine.

    def _join(self, request: Request) -> asyncio.Future[Result]:
        """The future of the request in progress that this one repeats."""
        first = self._in_progress[request.key]
        _check_same(request, first.request.digest)
        return first.future

    def _accept(self, request: Request) -> asyncio.Future[Result]:
        """The future of a request that waits from now on. Raises Unavailable."""
        if len(self._waiting) + len(self._waiting_bulk) >= MAX_WAITING:
            raise _too_many(f"{MAX_WAITING} requests")
        if self._waiting_bytes and self._waiting_bytes + request.size > MAX_WAITING_BYTES:
            raise _too_many(f"{MAX_WAITING_BYTES >> 20} MiB")
        future = asyncio.get_running_loop().create_future()
        span = _begin(request) if tracing.is_on() else None
        pending = Pending(request=request, future=future, taking=self._state.vitals.dispatch, span=span)
        (self._waiting_bulk if pending.bulk else self._waiting).append(pending)
        self._waiting_bytes += request.size
        self._wanted.set()
        if request.idempotent:
            self._in_progress[request.key] = pending
            pending.future.add_done_callback(lambda _: self._in_progress.pop(request.key, None))
        return pending.future

    async def caught_up(self) -> Position:
        """Returns the position of this node once it has read what the journal held at the time of the call.

        Concurrent calls share one read. Raises Unavailable.
        """
        self._catching_up.append(asyncio.get_running_loop().create_future())
        self._wanted.set()
        return await self._catching_up[-1]

    async def run(self) -> None:
        """Answers requests until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.drain()

    async def drain(self) -> None:
        """Answers everything that waits."""
        async with self._state.lock:
            while self._waits or self._catching_up:
                await self._round()
                if self._waits:
                    await asyncio.sleep(0)  # an append to memory never waits, nor does a pause, so others would have to

    @property
    def _waits(self) -> bool:
        """Whether a request waits, or has run in part."""
        return bool(self._waiting or self._waiting_bulk or self._bulk)

    async def _catch_up(self) -> StatestreamError | None:
        """Reads what others have written, for those who asked for it. Returns why that failed."""
        asking, self._catching_up = self._catching_up, []
        try:
            await self._state.catch_up()
        except StatestreamError as error:
            if not any(cause in self._state.vitals.troubles for cause in ("journal", "following")):
                log.info("what other nodes have written could not be read: %s", error)
            return error
        except Exception:
            log.exception("what other nodes have written could not be read")
        else:
            for future in asking:
                if not future.done():
                    future.set_result(self._state.position)
        finally:
            for future in asking:
                if not future.done():
                    future.set_exception(Unavailable("the journal cannot be read now; try again"))
        return None

    async def _round(self) -> None:
        """Answers a batch of what waits, one way or another, or runs a portion of a bulk request."""
        unread = await self._catch_up() if self._catching_up else None
        began, bulk = perf_counter(), self._next_bulk()
        batch = self._next_batch() if bulk is None else [bulk.pending]
        if not batch:
            return
        try:
            if self._state.stale:
                if unread is not None:  # the batch need not wait as long once more
                    raise unread
                await self._state.catch_up()
            if bulk is not None and not bulk.advance():
                self._bulk = bulk
                return
            ran = None if bulk is None else bulk.transaction
            await self._commit(list(batch), ran)  # a copy: it removes what it answers, and an error is for all of them
        except StatestreamError as error:
            requests = "request" if len(batch) == 1 else "requests"
            self._state.vitals.troubles.warn(f"the outcome of {len(batch)} {requests} is unknown: %s", error)
            _fail(batch, Unavailable(UNKNOWN_OUTCOME))
        except Exception:
            log.exception("the writer failed; it reads the journal before the next batch")
            _fail(batch, Unavailable(UNKNOWN_OUTCOME))
        except asyncio.CancelledError:
            _fail(batch, Unavailable("the store was closed; try again with the same id"))
            raise
        finally:
            if bulk is not None:
                self._pause, self._bulk_seconds = Pause(), perf_counter() - began

    def _next_bulk(self) -> BulkRun | None:
        """The bulk request that has run in part, or the next one, if the pause after the last portion is over."""
        if not (self._bulk or self._waiting_bulk) or not self._pause.over(self._bulk_seconds):
            return None
        bulk, self._bulk = self._bulk, None
        if bulk is None:
            pending = self._waiting_bulk.popleft()
            self._waiting_bytes -= pending.request.size
            bulk = BulkRun(pending, self._transaction, self._state.slices)
        return bulk

    def _next_batch(self) -> list[Pending]:
        """Small requests as they arrived."""
        batch: list[Pending] = []
        actions = 0
        while self._waiting and len(batch) < MAX_BATCH and actions < MAX_BATCH_ACTIONS:
            batch.append(self._waiting.popleft())
            actions += len(batch[-1].request.actions)
        self._waiting_bytes -= sum(pending.request.size for pending in batch)
        return batch

    def _away(self, request: Request) -> set[str]:
        """The instances that a request writes, and whose values are away."""
        slices = self._state.slices
        return set() if slices.complete else slices.missing(self._registry.targets(request.actions))

    async def _commit(self, batch: list[Pending], ran: Transaction | None) -> None:
        """Runs, appends, applies, announces and answers; starts over as often as another node was first.

        `ran`: the batch has run already, in this transaction.
        """
        caught_up = False
        for _ in range(MAX_ATTEMPTS):
            transaction = await self._state.complete(lambda: self._run(batch), locked=True) if ran is None else ran
            ran = None
            if not caught_up and not all(pending.changes for pending in batch):
                # before a caller is told that it failed or changed nothing, know what others have written
                caught_up, before = True, self._state.position
                await self._state.catch_up()
                if self._state.position != before:
                    continue
            await self._answer_repeats(batch)
            # a request that changes nothing is written too if a repeat must find its record
            written = [p for p in batch if not p.error and (p.changes or p.request.idempotent)]
            before = self._state.position
            try:
                outcomes = await self._append(transaction, written)
            except Duplicate as duplicate:
                await self._answer_duplicates(batch, duplicate.records)
            except Conflict:
                await self._state.catch_up()
            except Forked:
                await self._state.load("forked")
                await self._state.catch_up()
            except Expired:
                await self._state.load("expired")
            else:
                self._spend(transaction)
                self._finish(batch, dict(zip(written, outcomes, strict=True)), before)
                return
        raise Unavailable(f"other nodes were first {MAX_ATTEMPTS} times in a row; try again later")

    def _transaction(self) -> Transaction:
        state = self._state
        return Transaction(self._registry, state.slices, self._slow_calls, state.schemas, self.creations)

    def _run(self, batch: Sequence[Pending]) -> Transaction:
        """What a batch would change. Raises NotLoaded."""
        transaction = self._transaction()
        for pending in batch:
            _run(transaction, pending)
        return transaction

    async def _answer_repeats(self, batch: list[Pending]) -> None:
        """Answers those that fail now but have succeeded before: a repeat is a duplicate, whatever the state is now."""
        failed = [p.request.key for p in batch if p.error and p.request.idempotent]
        records = await self._state.journal.lookup(failed) if failed else {}
        if records:
            await self._answer_duplicates(batch, records)

    async def _answer_duplicates(
        self, batch: list[Pending], records: Mapping[IdempotencyKey, IdempotencyRecord]
    ) -> None:
        """Answers what is recorded already, once this node shows it too, and takes it out of the batch."""
        await self._state.catch_up()
        for pending in tuple(batch):
            record = records.get(pending.request.key) if pending.request.idempotent else None
            if record is None:
                continue
            batch.remove(pending)
            try:
                _check_same(pending.request, record.digest)
            except ActionIdReused as error:
                pending.fail(error)
            else:
                pending.answer(
                    Result(id=pending.request.id, position=record.position, duplicate=True, changes=record.changes)
                )

    async def _append(self, transaction: Transaction, written: Sequence[Pending]) -> list[Appended]:
        if not written:
            return []
        entries = [
            Entry(
                idempotency_key=p.request.key if p.request.idempotent else None,
                digest=p.request.digest,
                changes=tuple(p.changes),
                at=p.request.at,
            )
            for p in written
        ]
        traced = [p.span for p in written if p.span is not None] if tracing.is_on() else ()
        return await self._state.append(entries, transaction.based_on, transaction.value, traced)

    def _spend(self, transaction: Transaction) -> None:
        """Counts the instances that a transaction has created, now that they are durable."""
        if self.creations is not None:
            for creator, instances in transaction.created.items():
                self.creations.spend(creator, instances, monotonic())

    def _finish(self, batch: Sequence[Pending], outcomes: Mapping[Pending, Appended], before: Position) -> None:
        """Answers a batch, which began at `before`. What has changed nothing is answered with where it found that."""
        last = before
        for pending in batch:
            if pending.error:
                pending.fail(pending.error)
                continue
            outcome = outcomes.get(pending) or Appended(position=last, changes=())
            last = outcome.position
            pending.answer(
                Result(
                    id=pending.request.id,
                    position=outcome.position,
                    duplicate=False,
                    changes=tuple((change.slice, change.version) for change in outcome.changes),
                )
            )

    async def follow(self) -> None:
        """Applies what other nodes write while this one is idle, until cancelled."""
        self._state.vitals.troubles.end("following")  # of a store that was open before: it has just read the journal
        try:
            await self._follow()
        finally:
            if self._recovery is not None:
                self._recovery.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                seen = self._state.position
                await self._state.journal.wait(seen)
                if self._state.position == seen:
                    async with self._state.lock:
                        if self._state.position == seen:
                            await self._state.catch_up()
                            continue
                await asyncio.sleep(FOLLOW_SECONDS)
            except StatestreamError as error:
                await self._pause_following(str(error))
            except Exception:
                log.exception("following the journal failed, trying again in %s s", RETRY_SECONDS)
                await self._pause_following()

    async def _pause_following(self, why: str = "") -> None:
        # an idle journal reports no success: if nothing fails for as long as this, it has recovered
        troubles = self._state.vitals.troubles
        troubles.begin("following", why)
        if self._recovery is not None:
            self._recovery.cancel()
        self._recovery = asyncio.get_running_loop().call_later(RECOVERED_SECONDS, troubles.end, "following")
        await asyncio.sleep(RETRY_SECONDS)


def _too_many(waiting: str) -> Unavailable:
    return Unavailable(f"{waiting} are waiting for the journal already; try again later").over("waiting")


def _begin(request: Request) -> Span | None:
    span = tracing.begin("statestream.dispatch")
    if span is not None:
        span.note(id=request.id, actions=sorted({action.type for action in request.actions}))
    return span


def _run(transaction: Transaction, pending: Pending) -> None:
    pending.changes, pending.error = [], None
    began = 0 if pending.span is None else tracing.now()
    try:
        pending.changes = transaction.run(pending.request)
    except StatestreamError as error:
        pending.error = error
    if pending.span is not None:
        pending.span.part("statestream.handlers", began, tracing.now())


def _check_same(request: Request, digest: bytes) -> None:
    if digest and request.digest != digest:  # there is none if what the request was about has been erased
        raise ActionIdReused("the id belongs to another request already; use a new one")


def _fail(batch: Sequence[Pending], error: Unavailable) -> None:
    for pending in batch:
        pending.fail(error)
