"""Slices with more members than a handler may write to one by one: a whole value is one write, and others may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from statestream import Action, Slice, Store
from statestream.core.draft.tracker import MAX_WRITES
from statestream.core.errors import TooLarge
from statestream.journal import MemoryJournal

pytestmark = pytest.mark.slow

MANY = MAX_WRITES + 100
ROWS = {str(number): {"n": 0, "text": "x" * 60} for number in range(MANY)}


class Row(msgspec.Struct):
    n: int
    text: str


Rows = dict[str, Row]


def counted(state: Any) -> Any:
    return {key: {"n": 1, "text": row["text"]} for key, row in state.items()}


def noted(state: Any) -> None:
    state["0"]["n"] = 2


def emptied(state: Any) -> None:
    for row in state.values():
        row["text"] = ""


def rows(**options: Any) -> Slice[Any]:
    declared: Slice[Any] = Slice("rows", initial=ROWS, **options)
    for handler in (counted, noted, emptied):
        declared.action(handler)
    return declared


def action(name: str) -> Action:
    return Action(type=f"rows/{name}")


async def test_another_node_applies_what_one_returned() -> None:
    declared, journal = rows(), MemoryJournal()
    async with Store([declared], journal=journal) as here, Store([declared], journal=journal) as there:
        await here.dispatch(action("noted"))
        await here.dispatch(action("counted"))
        await there.dispatch(action("noted"))
        assert there.get(declared)["1"]["n"] == 1


async def test_a_handler_that_writes_to_each_is_refused_alone() -> None:
    declared = rows()
    async with Store([declared]) as store:
        with pytest.raises(TooLarge, match="the handler of rows for rows/emptied does too much"):
            await store.dispatch(action("emptied"))
        await store.dispatch(action("noted"))
        assert [store.get(declared)[key] for key in "01"] == [{"n": 2, "text": "x" * 60}, ROWS["1"]]


async def test_an_upgrade_may_write_to_each(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    async with Store([rows()], journal=journal) as store:
        await store.dispatch(action("noted"))
    newer = rows(version=2)
    newer.upgrade(2)(emptied)
    async with Store([newer], journal=journal) as store:
        assert store.get(newer)[str(MANY - 1)] == {"n": 0, "text": ""}


async def test_a_handler_of_a_typed_slice_may_return_all_of_them() -> None:
    declared: Slice[Rows] = Slice("rows", initial={key: Row(**row) for key, row in ROWS.items()}, type=Rows)

    @declared.action
    def replaced(state: Rows) -> Rows:
        return {key: Row(n=1, text=row.text) for key, row in state.items()}

    async with Store([declared]) as store:
        await store.dispatch(replaced())
        assert store.get(declared)[str(MANY - 1)].n == 1
