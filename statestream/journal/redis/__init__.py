"""The journal on a Redis server (7 or newer) or Valkey: for any number of nodes on any number of hosts.

Durability: once `append` has returned, the batch is as durable as the server makes a write before it answers. With
`appendonly yes` and `appendfsync always`, it survives a crash of the server and a power failure. With `everysec`, a
crash of the machine loses about the last second, and a crash of the process nothing. A failover to a replica loses what
the replica has not received; with `wait=N` in the URL, N replicas have received the batch. Whatever is lost in any of
these ways is lost from the end of the history, and every node and client that has seen it is told.

Invariants: every coroutine runs scripts, each of which is a transaction; `append` runs one. Only `save`, `trim`,
`tidy`, `erase` and `rewrite` run several, each of them short, because everybody else waits for one. Positions are
compared inside of the scripts, by seq and tag. So a node that was frozen or cut off writes only what fits the history.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from statestream.core.change import (
    PAGE,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    Page,
    Position,
    SliceState,
    new_tag,
)
from statestream.core.clock import AgeClock
from statestream.core.errors import Forked, JournalUnusable, Unavailable
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import (
    IDEMPOTENCY_MS,
    PAGE_BYTES,
    Appended,
    Batch,
    Checkpoint,
    Conflict,
    Duplicate,
    KeptRecord,
    Retention,
    SavedSlice,
    number,
    page_of,
)
from statestream.journal.redis import folding
from statestream.journal.redis.address import Address
from statestream.journal.redis.checkpoints import KeptCheckpoints
from statestream.journal.redis.erasing import Erasing
from statestream.journal.redis.link import Argument, Link
from statestream.journal.redis.packing import packed, packed_arguments, packed_key, unpacked, unpacked_record
from statestream.journal.redis.scripts import (
    APPEND,
    FORMAT,
    HEAD,
    LOOKUP,
    READ,
    REPLACED_FORMAT,
    TIDY,
    WRITABLE,
    Script,
)
from statestream.journal.redis.server_info import ServerInfo
from statestream.journal.redis.transfer import Transfer
from statestream.journal.redis.translation import damaged
from statestream.journal.redis.unfinished import Erasures, changes_left, erasures_of, records_left
from statestream.journal.redis.verdicts import verified
from statestream.journal.redis.waking import Waking

__all__ = ["RedisJournal"]

log = logging.getLogger("statestream")

WAIT_MS: Final = 2_000
"""How long a batch may take to reach as many replicas as the URL asks for."""
FORGET_AT_ONCE: Final = 500
"""How many idempotency records one script forgets."""


class RedisJournal:
    """The journal in the namespace of a Redis server that a URL names: `redis://host:6379/0?namespace=board`.

    `rediss://` uses TLS. Without a namespace, it is `statestream`. With `wait=N` in the URL, a batch counts as written
    when N replicas have received it. It needs the extra `redis`.
    """

    def __init__(self, url: str, retention: Retention | None = None) -> None:
        self._address = Address.parse(url)
        self.retention = retention or Retention()
        self.clock = AgeClock()
        self._writing, self._reading = Link(self._address), Link(self._address)
        self._waking = Waking(self._address)
        self._checkpoints = KeptCheckpoints(self._writing, self._reading, self.clock, self._read)
        self._transfer = Transfer(self._writing, self._reading, self.clock)
        self._erasing = Erasing(self._writing, self._reading, self._confirmed)
        self._is_open = False

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The journal of `redis://host:port/db?namespace=name`. Raises ValueError for another form."""
        return cls(url)

    def __repr__(self) -> str:
        return f"<RedisJournal at {self._address}>"

    # opening and closing

    async def open(self) -> None:
        for link in self._links:
            link.open()
        try:
            await self._prepare()
        except (Unavailable, JournalUnusable) as error:
            await self.close()
            raise JournalUnusable(f"the Redis server at {self._address} cannot keep the journal: {error}") from error
        except BaseException:
            await self.close()
            raise
        self._is_open = True

    @property
    def _links(self) -> Sequence[Link]:
        return self._writing, self._reading, self._waking.link

    async def _prepare(self) -> None:
        *_, clock, found = verified(await self._writing.run(HEAD))  # first: a cluster may have the keys elsewhere
        ServerInfo.parse(await self._writing.command("INFO")).check()
        if found.decode() not in ("", str(FORMAT), str(REPLACED_FORMAT)):
            raise JournalUnusable(
                f"expected format {FORMAT} or {REPLACED_FORMAT}, got {found.decode()}; upgrade statestream"
            )
        if found:
            self.clock.continue_from(int(clock))
        await self._note_time()
        try:
            await self._erasing.finish()
        except Unavailable as error:
            log.warning("what was erased before the last stop is still on the server, trying again later: %s", error)

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(Unavailable, JournalUnusable):  # then the last recorded time remains
                await self._note_time()
        for link in self._links:
            await link.close()

    # appending and reading

    async def head(self) -> Position:
        return (await self._ends())[0]

    async def earliest(self) -> Position:
        return (await self._ends())[1]

    async def _ends(self) -> tuple[Position, Position]:
        _, seq, tag, floor, floor_tag, *_ = verified(await self._reading.run(HEAD))
        return Position(seq=int(seq), tag=tag.decode()), Position(seq=int(floor), tag=floor_tag.decode())

    async def append(self, batch: Batch) -> list[Appended]:
        self._check_covered()
        tag, now = new_tag(), self.clock.now()
        limits = (now, now - IDEMPOTENCY_MS, self.retention.id_bytes)
        arguments = packed_arguments(batch, tag, limits, packed(batch, tag))
        answer = verified(await self._confirmed(APPEND, arguments))
        match answer:
            case [b"duplicate", found, erasures]:
                raise Duplicate(_records_of(batch, found, erasures_of(erasures)))
            case [b"conflict", name]:
                raise Conflict(f"{name.decode()} changed since it was read; reload and retry")
        _, seq, base_tag, clock = answer
        self.clock.advance_to(int(clock))
        return number(batch, Position(seq=int(seq), tag=base_tag.decode()), tag)

    async def _confirmed(self, script: Script, arguments: Sequence[Argument]) -> list[Any]:
        """The answer of a script that writes, once enough replicas have received what it wrote and all before."""
        replicas = self._address.replicas
        if not replicas:
            return await self._writing.run(script, *arguments)
        answer, [received] = await self._writing.run_with(script, arguments, ("WAIT", replicas, WAIT_MS))
        if received < replicas and answer[0] in (b"appended", b"duplicate", b"tidied", b"finished"):
            raise Unavailable(f"{received} of {replicas} replicas have received the change; try again with the same id")
        return answer

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        wanted = list(keys)
        if not wanted:
            return {}
        _, values, erasures = verified(await self._reading.run(LOOKUP, *map(packed_key, wanted)))
        oldest = self.clock.now() - IDEMPOTENCY_MS
        found = {}
        for key, value in zip(wanted, records_left(values, erasures_of(erasures)), strict=True):
            at, record = unpacked_record(value) if value else (0, None)
            if record is not None and at >= oldest:
                found[key] = record
        if found and self._address.replicas:  # then they must have received what a repeat is told
            await self._confirmed(TIDY, self._times(forget=0))
        return found

    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        self._check_covered()
        return await self._read(after, limit, selection)

    async def _read(self, after: Position, limit: int, selection: Selection = EVERYTHING) -> Page:
        _, found, enough, erasures = verified(await self._reading.run(READ, after.seq, after.tag, limit, PAGE_BYTES))
        changes: list[Change] = []
        each = iter(found)
        for last, base, tag, data in zip(each, each, each, each, strict=True):
            changes += unpacked(int(last), int(base), tag.decode(), data)
        if erasures:
            changes = changes_left(changes, erasures_of(erasures))
        changes = [change for change in changes if after.seq < change.version <= int(enough)]
        if changes and changes[-1].version - after.seq != len(changes):
            raise damaged(f"the history after change {after.seq}")
        page = page_of(changes, changes[-1].position if changes else after)
        return page if selection.everything else Page(changes=selection.among(page.changes), until=page.until)

    def _check_covered(self) -> None:
        """Raises Forked once if the node has to load its state again, because a checkpoint is lost."""
        if self._checkpoints.lost:
            self._checkpoints.lost = False
            raise Forked("a checkpoint of this history was lost; the state is loaded again")

    async def wait(self, after: Position) -> None:
        while not self._checkpoints.lost and not await self._waking.woken(after):
            if await self.head() != after:
                return

    # checkpoints

    async def checkpoints(self) -> Sequence[Checkpoint]:
        return await self._checkpoints.complete()

    async def saved(self, checkpoint: Position, selection: Selection = EVERYTHING) -> list[SavedSlice]:
        return await self._checkpoints.saved(checkpoint, selection)

    async def index(self, checkpoint: Position, selection: Selection = EVERYTHING) -> dict[str, int]:
        return await self._checkpoints.index(checkpoint, selection)

    async def save(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        await self._checkpoints.save(position, slices)

    async def trim(self, until: Position) -> None:
        await self._checkpoints.trim(until)

    async def tidy(self) -> None:
        more = 1
        while more:
            more = await self._note_time(FORGET_AT_ONCE)
        await self._checkpoints.clear()
        await self._erasing.finish()

    async def _note_time(self, forget: int = 0) -> int:
        """Records the time, and adopts a later one. Forgets up to so many ids; 1 if there may be more to forget."""
        _, recorded, more = verified(await self._writing.run(TIDY, *self._times(forget)))
        self.clock.advance_to(int(recorded))
        return int(more)

    def _times(self, forget: int) -> Sequence[Argument]:
        """What `lua/tidy.lua` expects."""
        now = self.clock.now()
        return now, now - IDEMPOTENCY_MS, self.retention.id_bytes, forget

    # erasing

    async def erase(self, names: Collection[str], actor: str | None = None) -> Position | None:
        """Returns once the server's memory does not contain what was erased either, see `erasing`."""
        erased = await self._erasing.erase(names, actor, self.clock.now())
        if erased is None and self._address.replicas:  # they must have received the erasure that was before
            await self._confirmed(TIDY, self._times(forget=0))
        return erased

    # folding

    async def rewrite(self, changes: Sequence[tuple[Change, Change]]) -> bool:
        return await folding.rewrite(self._writing, self._reading, changes)

    async def folded_until(self) -> Position:
        return await folding.folded_until(self._reading)

    async def note_folded(self, position: Position) -> None:
        await folding.note(self._writing, position)

    # to and from other journals

    async def records(self, after: IdempotencyKey | None = None) -> Sequence[KeptRecord]:
        return await self._transfer.records(after)

    async def begin_at(self, position: Position, slices: Mapping[str, SliceState]) -> None:
        await self._transfer.begin_at(position, slices)
        await self.save(position, slices)

    async def adopt(self, changes: Sequence[Change], records: Sequence[KeptRecord]) -> None:
        await self._transfer.adopt(changes, records)

    async def check_writable(self, *, by_writing: bool) -> None:
        """Raises Unavailable if the server would refuse a batch. `by_writing` also records the time."""
        verified(await self._writing.run(WRITABLE))
        if by_writing:
            await self._note_time()


def _records_of(batch: Batch, found: Sequence[bytes], erasures: Erasures) -> dict[IdempotencyKey, IdempotencyRecord]:
    """The records among the answers to a batch, by the keys of its requests."""
    keys = {
        packed_key(entry.idempotency_key): entry.idempotency_key for entry in batch.entries if entry.idempotency_key
    }
    records = records_left(found[1::2], erasures)
    return {keys[key]: unpacked_record(record)[1] for key, record in zip(found[::2], records, strict=True) if record}
