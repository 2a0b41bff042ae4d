"""The application of `ruled.py` with a fault that WRONG names, to see that an oracle finds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from statestream.broadcast import sync_frames
from statestream.broadcast.entitlements import Entitlements
from statestream.broadcast.sessions import Sessions
from statestream.broadcast.synchronizer import Synchronizer
from statestream.core.change import Change
from statestream.store.bus import Bus
from statestream.store.store import Store
from statestream.store.view import StoreView
from tests.apps import ruled

app = ruled.app
FAULTS: dict[str, Callable[[], None]] = {}


def fault(plant: Callable[[], None]) -> Callable[[], None]:
    FAULTS[plant.__name__] = plant
    return plant


def instead(kind: Any, name: str, function: Callable[..., Any]) -> None:
    setattr(kind, name, function)


@fault
def rights_are_never_evaluated_again() -> None:
    instead(Entitlements, "changed_by", lambda self, changes: [])


@fault
def rights_are_kept_when_instances_are_created() -> None:
    known = Entitlements.changed_by
    old = lambda changes: [each for each in changes if each.from_version]  # noqa: E731
    instead(Entitlements, "changed_by", lambda self, changes: known(self, old(changes)))


@fault
def what_comes_and_goes_within_a_commit_is_overlooked() -> None:
    instead(Entitlements, "_concerned_by", lambda self, change: ())


@fault
def changes_skip_the_view() -> None:
    instead(StoreView, "seen", lambda self, number, change: change)


@fault
def snapshots_skip_the_view() -> None:
    instead(StoreView, "_as_seen", lambda self, name, state, past=False: state)


@fault
def a_resume_ignores_the_rights_of_then() -> None:
    instead(Synchronizer, "_rights_then", lambda self, subscriber, cursor, backlog: set())


@fault
def what_is_lost_is_not_removed() -> None:
    known = sync_frames._moved
    instead(sync_frames, "_moved", lambda held, now, before, slices, head: known(held, now, {}, slices, head))


@fault
def a_revocation_is_not_announced() -> None:
    instead(Sessions, "changed", lambda self, changes: None)


@fault
def a_revocation_is_forgotten_at_once() -> None:
    instead(Sessions, "why_not", lambda self, identity: None)


@fault
def a_reinstatement_does_nothing() -> None:
    async def nothing(self: Store, subject: str) -> None:
        """Answers as if it had."""

    instead(Store, "reinstate", nothing)


@fault
def credentials_never_expire() -> None:
    instead(Sessions, "_expire", lambda self: None)


@fault
def one_change_in_a_hundred_is_not_announced() -> None:
    announce = Bus.announce

    def announced(self: Bus, changes: Sequence[Change]) -> None:
        announce(self, [each for each in changes if each.version % 100 or each.slice.startswith("revocation")])

    instead(Bus, "announce", announced)


FAULTS[os.environ["WRONG"]]()
