"""What recorded evidence proves about a history: every promise that it shows to be broken.

    answered       a request is answered with its outcome, or with 503 and a time after which to try again
    acknowledged   what was acknowledged is in the journal, with the changes and at the position that the answer says
    once           an id took effect at most once, whatever became of its tries; a refused one not at all
    whole          the changes of a request are together, and are those of its actions
    meaning        each change does what its action does to the value before it: none was made from another value
    order          an action that was sent after another one was acknowledged comes after it
    gapless        each reader was shown a run of the one order: every selected change once, none left out
    identical      whoever was shown a version or a position was shown the same, and the journal has it too
    fresh          a state is not older than what its node had acknowledged before it was asked, and is one of the order

Invariants: pure. It takes the journal as rows, from whoever reads it. It knows what the actions of `tests/apps/tallied`
do, and shares no code with the product.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from tests.support.evidence import (
    HIDDEN,
    REMOVED,
    Answer,
    Evidence,
    History,
    Look,
    Request,
    Shown,
    mark,
    patched,
    seq_of,
)

Promise = Literal["answered", "acknowledged", "once", "whole", "meaning", "order", "gapless", "identical", "fresh"]
NAMED = 10
"""How many broken promises of one reader are told: one fault may show in everything after it."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that was not kept."""

    promise: Promise
    how: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A change as the journal has it. `content` is the value, the operations of a patch, or None."""

    seq: int
    tag: str
    slice: str
    from_version: int
    kind: str
    content: Any
    type: str
    id: str


class Order:
    """The one order: the journal, with the value that each change leads to."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows: list[Row] = []
        self.marks: list[int] = []
        self.by_id: dict[str, list[Row]] = {}
        self.broken: list[Broken] = []
        self._values: dict[str, Any] = {}
        self._versions: dict[str, int] = {}
        for row in rows:
            self._add(row)

    def _add(self, row: Row) -> None:
        if row.seq != len(self.rows) + 1:
            self.broken.append(Broken("gapless", f"the journal has change {row.seq} after {len(self.rows)}"))
        if row.from_version != self._versions.get(row.slice, 0):
            held = self._versions.get(row.slice, 0)
            self.broken.append(
                Broken("meaning", f"change {row.seq} of {row.slice} is based on {row.from_version}, not {held}")
            )
        before = self._values.pop(row.slice, None)
        try:
            after = patched(before, row.content) if row.kind == "patches" else row.content
        except (LookupError, TypeError):
            after = None
        if fault := _fault(row, before, after):
            self.broken.append(Broken("meaning", f"change {row.seq} of {row.slice} by {row.id}: {fault}"))
        if row.kind == "removed":
            self._versions.pop(row.slice, None)
        else:
            self._values[row.slice], self._versions[row.slice] = after, row.seq
        self.rows.append(row)
        self.marks.append(REMOVED if row.kind == "removed" else mark(after))
        self.by_id.setdefault(row.id, []).append(row)


def _fault(row: Row, before: Any, after: Any) -> str:
    """What is wrong with the value after a change, given that before it. Empty: nothing."""
    if row.type in ("statestream/opened", "statestream/upgraded"):
        kept = before is None or (before["count"], before["last"]) == (after["count"], after["last"])
        return "" if kept else "an initial value or an upgrade replaces another value"
    if row.type == "tally/ended":
        return "" if row.kind == "removed" and before is not None else "it does not end the tally"
    if after is None:
        return "its patch does not fit"
    count = (before["count"] if before else 0) + 1
    if (after["count"], after["last"]) == (count, row.id):
        return ""
    return f"expected count {count} by {row.id}, got {after['count']} by {after['last']}"


def verdict(evidence: Evidence, rows: Iterable[Row]) -> list[Broken]:
    """Every promise that the evidence shows to be broken, once the journal is read to its end."""
    order = Order(rows)
    found = [
        *_answers(evidence),
        *order.broken,
        *_sightings(evidence, order),
        *_requests(evidence, order),
        *_real_time(evidence, order),
    ]
    for history in evidence.histories:
        found += [Broken("gapless", f"{history.name}: {wrong}") for wrong in history.wrong[:NAMED]]
        found += _Run(history, order).broken()[:NAMED]
    return [*found, *_looks(evidence.looks, order)]


def _answers(evidence: Evidence) -> Iterator[Broken]:
    for failure in evidence.failures:
        yield Broken("answered", failure)
    for node, after in evidence.unavailable:
        if after is None or int(after) < 1:
            yield Broken("answered", f"node {node} was unavailable with Retry-After {after}")


def _sightings(evidence: Evidence, order: Order) -> Iterator[Broken]:
    """What was shown is what the journal has."""
    seen = evidence.sightings
    for contradiction in seen.contradictions:
        yield Broken("identical", contradiction)
    for seq, tag in seen.tags.items():
        if seq and (seq > len(order.rows) or order.rows[seq - 1].tag != tag):
            yield Broken("identical", f"position {seq}.{tag} was shown and is not in the journal")
    for seq, (name, shown) in seen.values.items():
        if seq > len(order.rows) or (order.rows[seq - 1].slice, order.marks[seq - 1]) != (name, shown):
            yield Broken("identical", f"version {seq} of {name} was shown with a value that the journal has not")
    for seq, id in seen.causes.items():
        if seq > len(order.rows) or order.rows[seq - 1].id != id:
            yield Broken("identical", f"change {seq} was shown as made by {id}, which the journal has not")


def _requests(evidence: Evidence, order: Order) -> Iterator[Broken]:
    for request in evidence.requests.values():
        rows = order.by_id.get(request.id, [])
        yield from _effect(request, rows)
        for answer in request.answers:
            yield from _answered(request, answer, rows, order)
        if len({answer.position for answer in request.answers}) > 1:
            yield Broken("once", f"{request.id} was answered with several positions")
        if sum(not answer.duplicate for answer in request.answers) > 1:
            yield Broken("once", f"{request.id} was answered twice as if it were new")


def _effect(request: Request, rows: list[Row]) -> Iterator[Broken]:
    """What an id has done: nothing, or each of its actions once and together."""
    if request.refused and rows:
        yield Broken("once", f"{request.id} was refused, and has changed {rows[0].slice}")
    done = [(row.type, row.slice) for row in rows]
    wanted = list(request.actions)
    if len(done) > len(wanted) or any(done.count(each) > wanted.count(each) for each in done):
        yield Broken("once", f"{request.id} took effect more than once: {done} of {wanted}")
    elif done and [each for each in wanted if each[0] != "tally/ended" or each in done] != done:
        yield Broken("whole", f"{request.id} took effect in part: {done} of {wanted}")
    if rows and rows[-1].seq - rows[0].seq != len(rows) - 1:
        yield Broken("whole", f"the changes of {request.id} are not together: {[row.seq for row in rows]}")


def _answered(request: Request, answer: Answer, rows: list[Row], order: Order) -> Iterator[Broken]:
    if [*answer.changes] != [(row.slice, row.seq) for row in rows]:
        has = [(row.slice, row.seq) for row in rows]
        yield Broken("acknowledged", f"{request.id} was acknowledged with {answer.changes}; the journal has {has}")
        return
    seq, _, tag = answer.position.partition(".")
    found = order.rows[int(seq) - 1] if 0 < int(seq) <= len(order.rows) else None
    if found is None or found.tag != tag or (rows and found is not rows[-1]):
        yield Broken("acknowledged", f"{request.id} was acknowledged at {answer.position}, where it is not")


def _real_time(evidence: Evidence, order: Order) -> Iterator[Broken]:
    """Whatever was acknowledged before a request was first sent comes before it."""
    answers = sorted(
        (answer.at, seq_of(answer.position)) for request in evidence.requests.values() for answer in request.answers
    )
    times, newest = [at for at, _ in answers], [*accumulate((seq for _, seq in answers), max)]
    for request in evidence.requests.values():
        rows = order.by_id.get(request.id)
        before = bisect_left(times, request.began)
        if rows and before and rows[0].seq <= newest[before - 1]:
            yield Broken(
                "order", f"{request.id} is change {rows[0].seq}, after {newest[before - 1]} had been acknowledged"
            )


class _Run:
    """A reader's history beside the one order, which is at `_at`, with the versions of the slices it selects."""

    def __init__(self, history: History, order: Order) -> None:
        self._history, self._order = history, order
        self._at = 0
        self._versions: dict[str, int] = {}
        self._began = False
        self._broken: list[Broken] = []

    def broken(self) -> list[Broken]:
        for shown in self._history.shown:
            seq = shown if isinstance(shown, int) else shown.position
            if seq > len(self._order.rows):
                self._note(f"was shown {seq}, beyond the end of the journal")
                break  # `identical` says it of all that follows
            if isinstance(shown, int):
                self._update(shown)
            else:
                self._frame(shown)
        return self._broken

    def _note(self, how: str) -> None:
        self._broken.append(Broken("gapless", f"{self._history.name} {how}"))

    def _moved(self, until: int) -> list[Row]:
        """Moves on, over the selected changes that are returned."""
        rows = [row for row in self._order.rows[self._at : until] if self._history.selects(row.slice)]
        for row in rows:
            if row.kind == "removed":
                self._versions.pop(row.slice, None)
            else:
                self._versions[row.slice] = row.seq
        self._at = max(self._at, until)
        return rows

    def _update(self, seq: int) -> None:
        if seq <= self._at:
            self._note(f"was shown change {seq} after {self._at}")
            return
        rows = self._moved(seq)
        if [row.seq for row in rows] != [seq]:
            self._note(f"was shown change {seq}; the selected ones up to it are {[row.seq for row in rows]}")

    def _frame(self, shown: Shown) -> None:
        if shown.kind == "state":
            self._state(shown)
        elif shown.position < self._at:
            self._note(f"was shown position {shown.position} after {self._at}")
        elif shown.kind == "catch-up":
            before = dict(self._versions)
            self._moved(shown.position)
            changed = {name: version for name, version in self._versions.items() if before.get(name) != version}
            removed = {name for name in before if name not in self._versions}
            given = {name: version for name, version in shown.versions.items() if version > 0}
            gone = {name for name, version in shown.versions.items() if version < 0}
            if (given, gone) != (changed, removed):
                self._note(f"was shown a catch-up to {shown.position} that is not what has changed")
        elif rows := self._moved(shown.position):
            self._note(f"was not shown change {rows[0].seq} before a {shown.kind} at {shown.position}")
        elif shown.kind == "resumed" and shown.versions != self._versions:
            self._note(f"resumed at {shown.position} with other versions")

    def _state(self, shown: Shown) -> None:
        if self._began and shown.position < self._at:
            self._note(f"was shown the state at {shown.position} after {self._at}")
            return
        self._began = True
        self._moved(shown.position)
        if shown.versions != self._versions:
            self._note(f"was shown a state at {shown.position} with other versions")


def _looks(looks: Iterable[Look], order: Order) -> Iterator[Broken]:
    versions: dict[str, int] = {}
    at = 0
    for look in sorted(looks, key=lambda look: look.position):
        if look.position < look.at_least:
            yield Broken(
                "fresh", f"node {look.node} showed the state at {look.position}, having acknowledged {look.at_least}"
            )
        for row in order.rows[at : look.position]:
            if not row.slice.startswith(HIDDEN):
                versions[row.slice] = row.seq
            if row.kind == "removed":
                del versions[row.slice]
        at = max(at, look.position)
        if look.versions != versions:
            yield Broken("fresh", f"node {look.node} showed a state at {look.position} that never was")
