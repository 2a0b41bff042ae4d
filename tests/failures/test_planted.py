"""The verdict about recorded evidence finds faults: planted in one of three nodes, and written down by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.callers import calling
from tests.support.cluster import TALLIED, cluster, rows
from tests.support.evidence import Answer, Evidence, Look, Request, mark
from tests.support.verdict import Row, verdict

WRONG = f"{ROOT / 'tests/apps/tallied_wrong.py'}:app"
PLANTED = {
    "acknowledges_what_is_never_written": "acknowledged",
    "an_id_counts_twice_if_its_answer_was_lost": "once",
    "one_change_in_fifty_is_not_sent": "gapless",
    "the_loser_of_a_conflict_writes_what_it_has": "meaning",
    "changes_are_shown_before_they_are_durable": "identical",
    "a_state_is_half_a_second_old": "fresh",
}
pytestmark = pytest.mark.timeout(300)  # a busy machine takes long


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "promise"), PLANTED.items())
async def test_a_fault_of_one_node_is_found(fault: str, promise: str, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    with cluster(journal, (WRONG, TALLIED, TALLIED), WRONG=fault) as nodes:
        async with calling(nodes, writers=9, readers_of_each=1) as callers:
            failures = callers.evidence.failures
            await callers.until(lambda: callers.acknowledged[0] > 200 or len(failures) > 20)
    found = verdict(callers.evidence, await rows(journal))
    for broken in found[:5]:
        print(broken)
    assert promise in {broken.promise for broken in found}


def tally(count: int, last: str) -> dict[str, object]:
    return {"count": count, "last": last}


def row(seq: int, id: str, count: int) -> Row:
    return Row(
        seq=seq, tag="t", slice="tally/1", from_version=seq - 1, kind="value", content=tally(count, id),
        type="tally/counted", id=id,
    )  # fmt: skip


def recorded() -> tuple[Evidence, list[Row]]:
    """Three requests, one after the other, and a reader and a look at the state after each."""
    evidence, journal = Evidence(), [row(1, "a", 1), row(2, "b", 2), row(3, "c", 3)]
    reader = evidence.reader("*")
    reader.frame("state.initial", "0.0", {"reason": "start", "slices": {}, "versions": {}})
    for each in journal:
        evidence.requests[each.id] = Request(
            id=each.id, actions=((each.type, each.slice),), began=each.seq, answers=[answer(each.seq)]
        )
        data = {"slice": each.slice, "version": each.seq, "from": each.from_version, "value": each.content}
        reader.frame("state.update", f"{each.seq}.t", data | {"cause": {"id": each.id}})
        evidence.looks.append(Look(node=0, at_least=each.seq, position=each.seq, versions={each.slice: each.seq}))
    return evidence, journal


def answer(seq: int, tag: str = "t") -> Answer:
    return Answer(at=seq + 0.5, position=f"{seq}.{tag}", changes=(("tally/1", seq),), duplicate=False)


def test_sound_evidence_breaks_no_promise() -> None:
    assert verdict(*recorded()) == []


def lost(evidence: Evidence, journal: list[Row]) -> None:
    del journal[2]
    del evidence.histories[0].shown[3], evidence.looks[2]
    evidence.sightings.__init__()  # type: ignore[misc]


def at_another_position(evidence: Evidence, journal: list[Row]) -> None:
    evidence.requests["b"].answers = [answer(2, "other")]


def twice(evidence: Evidence, journal: list[Row]) -> None:
    journal.append(row(4, "c", 4))


def although_refused(evidence: Evidence, journal: list[Row]) -> None:
    evidence.requests["b"].refused, evidence.requests["b"].answers = True, []


def in_part(evidence: Evidence, journal: list[Row]) -> None:
    evidence.requests["b"].actions = (("tally/counted", "tally/1"), ("total/added", "total"))


def from_an_old_value(evidence: Evidence, journal: list[Row]) -> None:
    journal[2] = row(3, "c", 2)
    evidence.sightings.values[3] = ("tally/1", mark(tally(2, "c")))


def before_what_was_acknowledged(evidence: Evidence, journal: list[Row]) -> None:
    evidence.requests["b"].began = 4.0


def left_out(evidence: Evidence, journal: list[Row]) -> None:
    del evidence.histories[0].shown[2]


def repeated(evidence: Evidence, journal: list[Row]) -> None:
    evidence.histories[0].shown.insert(2, 1)


def shown_and_not_durable(evidence: Evidence, journal: list[Row]) -> None:
    evidence.sightings.position("4.t")


def shown_differently(evidence: Evidence, journal: list[Row]) -> None:
    evidence.sightings.value("tally/1", 2, mark(tally(5, "b")))


def an_old_state(evidence: Evidence, journal: list[Row]) -> None:
    evidence.looks[1] = Look(node=0, at_least=2, position=1, versions={"tally/1": 1})


def a_state_that_never_was(evidence: Evidence, journal: list[Row]) -> None:
    evidence.looks[1] = Look(node=0, at_least=2, position=2, versions={"tally/1": 1})


def without_a_time(evidence: Evidence, journal: list[Row]) -> None:
    evidence.unavailable.append((0, None))


BREAKS: dict[Callable[[Evidence, list[Row]], None], set[str]] = {
    lost: {"acknowledged"},
    at_another_position: {"acknowledged"},
    twice: {"once", "acknowledged"},
    although_refused: {"once"},
    in_part: {"whole"},
    from_an_old_value: {"meaning"},
    before_what_was_acknowledged: {"order"},
    left_out: {"gapless"},
    repeated: {"gapless"},
    shown_and_not_durable: {"identical"},
    shown_differently: {"identical"},
    an_old_state: {"fresh"},
    a_state_that_never_was: {"fresh"},
    without_a_time: {"answered"},
}


@pytest.mark.parametrize("change", BREAKS, ids=lambda change: change.__name__)
def test_what_evidence_shows_is_told_by_the_promise(change: Callable[[Evidence, list[Row]], None]) -> None:
    evidence, journal = recorded()
    change(evidence, journal)
    assert {broken.promise for broken in verdict(evidence, journal)} == BREAKS[change]
