"""The content of a Redis journal on its way to another journal, or from one: with its positions and ids.

Redis keeps idempotency records in no order, and an export has them in the order of their keys. So the first page of an
export collects all keys, which takes about a hundred bytes for each, and the further pages look these up.

Invariants: adopted changes are compared as appended ones are: they continue the history and their slices, or nothing is
written. Records come in the order of their keys, so those that were adopted are forgotten somewhat later than the
others of their age. `lookup` does not return them all the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from statestream.core.change import Change, IdempotencyKey, Position, SliceState
from statestream.core.clock import AgeClock
from statestream.core.errors import Forked
from statestream.journal.contract import IDEMPOTENCY_MS, KeptRecord
from statestream.journal.redis.link import Link
from statestream.journal.redis.packing import (
    packed_adoption,
    packed_beginning,
    packed_key,
    unpacked_key,
    unpacked_record,
)
from statestream.journal.redis.scripts import ADOPT, BEGIN, LOOKUP, SCAN
from statestream.journal.redis.unfinished import erasures_of, records_left
from statestream.journal.redis.verdicts import verified

PORTION: Final = 1_000


class Transfer:
    """What leaves and enters one journal."""

    def __init__(self, writing: Link, reading: Link, clock: AgeClock) -> None:
        self._writing, self._reading, self._clock = writing, reading, clock
        self._keys: list[IdempotencyKey] = []
        """All keys in order, as of the first page of records."""

    async def records(self, after: IdempotencyKey | None) -> list[KeptRecord]:
        if after is None or not self._keys:
            self._keys = await self._all_keys()
        begin = 0 if after is None else bisect_right(self._keys, after)
        oldest = self._clock.now() - IDEMPOTENCY_MS
        found: list[KeptRecord] = []
        while begin < len(self._keys) and not found:
            keys = self._keys[begin : begin + PORTION]
            _, values, erasures = verified(await self._reading.run(LOOKUP, *map(packed_key, keys)))
            for key, value in zip(keys, records_left(values, erasures_of(erasures)), strict=True):
                if value is not None:  # otherwise it was forgotten meanwhile
                    at, record = unpacked_record(value)
                    found += [KeptRecord(key=key, record=record, at=at)] if at >= oldest else []
            begin += PORTION
        return found

    async def _all_keys(self) -> list[IdempotencyKey]:
        keys: set[IdempotencyKey] = set()
        cursor = b"0"
        while True:
            _, cursor, found = verified(await self._reading.run(SCAN, cursor, PORTION))
            keys.update(map(unpacked_key, found))
            if cursor == b"0":
                return sorted(keys)

    async def begin_at(self, position: Position, slices: Mapping[str, SliceState]) -> None:
        """Without the checkpoint, which is made afterwards."""
        versions = [(name, state.version) for name, state in slices.items()]
        for at in range(0, max(1, len(versions)), PORTION):
            some, now = dict(versions[at : at + PORTION]), self._clock.now()
            verified(await self._writing.run(BEGIN, packed_beginning(position, some, now, first=at == 0)))

    async def adopt(self, changes: Sequence[Change], records: Sequence[KeptRecord]) -> None:
        before: dict[str, int] = {}
        after: dict[str, int] = {}
        for number, change in enumerate(changes):
            expected = 0 if change.is_erased else change.from_version
            continued = after.setdefault(change.slice, before.setdefault(change.slice, expected))
            if expected != continued or change.version != changes[0].version + number:
                raise Forked("the changes do not continue each other")
            after[change.slice] = 0 if change.kind == "removed" else change.version
        verified(await self._writing.run(ADOPT, *packed_adoption(changes, records, before, after, self._clock.now())))
