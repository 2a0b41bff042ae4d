"""Upgrades instances of earlier versions when they are first used.

A journal may have a hundred thousand instances, of which a node uses a few hundred. So an instance stays as older code
has written it until somebody reads or writes it. Then its upgrade is a change like any other, before anybody sees the
value: every node has the same value at a position, and whoever has a copy of the old value receives the new one.

Invariants: a value of an earlier version is never in memory, unless all values are (`opening.py` upgrades those). It
counts as away until it is upgraded. An upgrade depends on the instance being as it was, and on no newer code having
taken over the slice. One that fails changes nothing, and concerns one instance.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Final

from statestream.core.change import Cause, PendingChange, SliceState, new_id, now_ms
from statestream.core.errors import JournalUnusable, Unavailable
from statestream.journal.contract import Entry
from statestream.store.loaded import LoadedSlices
from statestream.store.opening import upgrade_cause, upgraded
from statestream.store.registry import HandlerRegistry
from statestream.store.schemas import Schemas, note_of

log = logging.getLogger("statestream")

PORTION: Final = 100
"""The instances that are upgraded in one batch."""


class Upgrading:
    """The upgrades of the instances of a node. It plans them; `node_state` writes them."""

    def __init__(self, registry: HandlerRegistry, slices: LoadedSlices, schemas: Schemas) -> None:
        self._registry, self._slices, self._schemas = registry, slices, schemas
        self._failed: dict[str, int] = {}
        """The instances whose upgrades have failed, with their versions: each is logged once."""

    def old(self, names: Iterable[str]) -> list[str]:
        """Those that are of an earlier version, up to PORTION. Raises Unavailable if newer code has taken them over."""
        found: list[str] = []
        for name in names:
            if self._schemas.is_old(name, self._slices.version(name)):
                self._check_current(name.partition("/")[0])
                found.append(name)
                if len(found) == PORTION:
                    break
        return found

    def _check_current(self, family: str) -> None:
        if self._schemas.is_outdated(family):
            raise Unavailable(
                f"newer code has taken over {family}, and this process still runs the old, which cannot upgrade what "
                "is older; try again, because another process may answer"
            )

    def plan(self, states: Mapping[str, SliceState]) -> tuple[Entry, dict[str, int]]:
        """What upgrades those that are still as these states, and the versions on which that depends.

        Raises JournalUnusable if none of them can be upgraded.
        """
        changes: list[PendingChange] = []
        versions: dict[str, int] = {}
        cause, failure = upgrade_cause(new_id()), None
        for name, state in states.items():
            if self._slices.version(name) != state.version or not self._schemas.is_old(name, state.version):
                continue  # somebody else has used it meanwhile
            try:
                changes.append(self._upgraded(name, state, cause))
            except JournalUnusable as error:
                failure = self._note_failed(name, state.version, error)
                continue
            family = name.partition("/")[0]
            versions[name] = state.version
            versions[note_of(family, self._registry.slices[family].upgrades.version + 1)] = 0
        if failure is not None and not changes:
            raise failure
        return Entry(idempotency_key=None, digest=b"", changes=tuple(changes), at=now_ms()), versions

    def _upgraded(self, name: str, state: SliceState, cause: Cause) -> PendingChange:
        """Raises JournalUnusable."""
        declared = self._registry.slices[name.partition("/")[0]]
        data = upgraded(declared, name, state, self._schemas.version_of(name, state.version))
        return PendingChange(slice=name, kind="value", data=data, cause=cause)

    def _note_failed(self, name: str, version: int, error: JournalUnusable) -> JournalUnusable:
        if self._failed.get(name) != version:
            self._failed[name] = version
            log.error("%s", error)
        return error
