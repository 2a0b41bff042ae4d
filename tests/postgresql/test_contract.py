"""PostgreSQL against the contract of journals, and against the machine that tries them at random."""

from __future__ import annotations

import pytest
from hypothesis import settings

from statestream.journal import Checkpoints, Journal, Migratable, PostgresqlJournal, Retention, Writable, from_url
from statestream.testing import JournalContract, journal_machine
from tests.support.often import often
from tests.support.postgresql import shared

URLS: dict[int, str] = {}


async def new_postgresql(retention: Retention) -> Journal:
    journal = PostgresqlJournal(url := shared().new_url(), retention)
    URLS[id(journal)] = url
    await journal.open()
    return journal


async def reopened(journal: Journal) -> Journal:
    url = URLS.pop(id(journal))
    await journal.close()
    again = PostgresqlJournal(url, journal.retention)
    URLS[id(again)] = url
    await again.open()
    return again


class TestPostgresql(JournalContract):
    make = staticmethod(new_postgresql)
    reopen = staticmethod(reopened)


TestPostgresqlMachine = pytest.mark.long(journal_machine(new_postgresql, reopened).TestCase)
TestPostgresqlMachine.settings = settings(max_examples=often(8), stateful_step_count=30, deadline=None)


def test_an_engine_by_its_url() -> None:
    for scheme in ("postgresql", "postgres"):
        journal = from_url(f"{scheme}://ada@db.example.com/app?schema=board")
        assert isinstance(journal, PostgresqlJournal)
        assert isinstance(journal, Checkpoints)
        assert isinstance(journal, Writable)
        assert isinstance(journal, Migratable)
