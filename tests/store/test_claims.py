"""Two processes have to make a checkpoint at once: one leaves it to the other, and nobody is told of a trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from statestream import Slice, Store
from statestream.core.change import START
from statestream.journal import PostgresqlJournal, Retention, SqliteJournal
from statestream.journal.postgresql.statements import Statements
from statestream.journal.sqlite import checkpoints
from statestream.store import upkeep
from tests.support import eventually
from tests.support.postgresql import shared

OFTEN = Retention(changes=0, age=0.0, bytes=0, checkpoint=1)
Claimed = tuple[Any, Callable[[], Awaitable[Any]]]
"""A journal of which another process makes a checkpoint, until that is called."""
counter = Slice("counter", initial=0)


@counter.action
def counted(state: int) -> int:
    return state + 1


@asynccontextmanager
async def claimed_file(tmp_path: Path) -> AsyncIterator[Claimed]:
    journal, other = (SqliteJournal(tmp_path / "journal.db", OFTEN) for _ in range(2))
    await other.open()
    claim = await other._writing.run(checkpoints.claim, START, other.clock.now(), other._claims)
    assert claim is not None
    try:
        yield journal, lambda: other._writing.run(checkpoints.unclaim, START, claim)
    finally:
        await other.close()


@asynccontextmanager
async def claimed_database(_: Path) -> AsyncIterator[Claimed]:
    url = shared().new_url()
    driver = await shared().connect()
    transaction = driver.transaction()
    await transaction.start()
    try:
        assert await driver.fetchval(Statements(url.partition("schema=")[2])["lock_checkpoints"])
        yield PostgresqlJournal(url, OFTEN), transaction.rollback
    finally:
        await driver.close()


@pytest.mark.parametrize("claimed", [claimed_file, claimed_database], ids=["sqlite", "postgresql"])
async def test_a_checkpoint_that_another_process_makes_is_no_trouble(
    claimed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "RETRY_SECONDS", 0.05)
    async with claimed(tmp_path) as (journal, ends), Store([counter], journal=journal) as store:
        await store.dispatch(counted())
        await eventually(lambda: store._state.upkeep._not_before)
        assert not store._state.vitals.troubles.current()
        assert not await journal.checkpoints()
        await ends()
        await eventually(journal.checkpoints)
    assert not caplog.records
