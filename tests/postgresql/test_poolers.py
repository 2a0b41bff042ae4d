"""A PostgreSQL journal behind PgBouncer, which gives each transaction another connection, or each client its own.

`make soak` adds the rest of the contract of journals: behind a pooler, only transactions and sessions differ.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from statestream.core.change import START
from statestream.journal import Journal, PostgresqlJournal, Retention
from statestream.journal.postgresql import wake_ups
from statestream.testing import JournalContract
from statestream.testing.journals import entry, value, write
from tests.support import PlainClient, Server, dispatch, eventually, get_state
from tests.support.pgbouncer import AVAILABLE, PgBouncer, shared_pooler
from tests.support.postgresql import shared

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="takes PgBouncer: install Debian's package pgbouncer")
URLS: dict[int, str] = {}


async def new_journal(retention: Retention, url: str = "") -> Any:
    url = url or shared().new_url(port=shared_pooler().port)
    journal = PostgresqlJournal(url, retention)
    URLS[id(journal)] = url
    await journal.open()
    return journal


async def reopened(journal: Journal) -> Journal:
    await journal.close()
    return await new_journal(journal.retention, URLS.pop(id(journal)))


@pytest.mark.soak
class TestBehindPooler(JournalContract):
    make = staticmethod(new_journal)
    reopen = staticmethod(reopened)


class TestTransactionsBehindPooler:
    """Those of the contract in which transactions, locks and notifications matter."""

    make = staticmethod(new_journal)
    reopen = staticmethod(reopened)
    test_changes_are_numbered_and_come_back_as_they_were = (
        JournalContract.test_changes_are_numbered_and_come_back_as_they_were
    )
    test_a_wait_ends_when_there_is_a_change = JournalContract.test_a_wait_ends_when_there_is_a_change
    test_a_restart_continues_everything = JournalContract.test_a_restart_continues_everything
    test_one_who_was_beaten_gets_a_conflict_and_writes_nothing = (
        JournalContract.test_one_who_was_beaten_gets_a_conflict_and_writes_nothing
    )
    test_a_request_that_is_done_is_a_duplicate_whatever_else_is_wrong = (
        JournalContract.test_a_request_that_is_done_is_a_duplicate_whatever_else_is_wrong
    )
    test_trimming_stops_at_a_checkpoint_and_keeps_the_newest = (
        JournalContract.test_trimming_stops_at_a_checkpoint_and_keeps_the_newest
    )
    test_appends_go_on_while_a_checkpoint_is_made = JournalContract.test_appends_go_on_while_a_checkpoint_is_made
    test_others_append_while_a_slice_is_erased = JournalContract.test_others_append_while_a_slice_is_erased
    test_changes_are_replaced_only_as_they_were_read_and_all_of_them_or_none = (
        JournalContract.test_changes_are_replaced_only_as_they_were_read_and_all_of_them_or_none
    )


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """Two servers behind one pooler that has fewer connections than they have."""
    with PgBouncer(shared(), connections=5) as pooler:
        url = shared().new_url(port=pooler.port)
        with Server.serving(journal=url) as here, Server.serving(journal=url) as there:
            yield here, there


async def test_nodes_behind_a_pooler_share_their_connections(
    pair: tuple[Server, Server], http: aiohttp.ClientSession
) -> None:
    before = (await get_state(http, pair[0].url))["slices"]["counter"]
    counting = [dispatch(http, server.url, "board/counted") for _ in range(60) for server in pair]
    answers = [*await asyncio.gather(*counting), await dispatch(http, pair[0].url, "board/counted")]
    assert [status for status, _ in answers if status != 200] == []
    state = await get_state(http, pair[0].url)
    assert state["slices"]["counter"] == before + 121


async def test_readers_behind_a_pooler_are_current_within_a_second(
    pair: tuple[Server, Server], http: aiohttp.ClientSession
) -> None:
    here, there = pair
    with PlainClient(there.port) as reader:
        for _ in range(10):
            status, body = await dispatch(http, here.url, "board/counted")
            assert status == 200, body
            began = time.monotonic()
            await asyncio.to_thread(reader.read_to, body["position"])
            assert time.monotonic() - began < 1, "the promise: without notifications as well"


async def test_a_pooler_that_loses_its_connections_is_no_end(
    pair: tuple[Server, Server], http: aiohttp.ClientSession
) -> None:
    here, there = pair
    ends = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with PlainClient(there.port) as reader:
        for number in range(3):
            await shared().value(ends)
            while (answer := await dispatch(http, here.url, "board/counted", id=f"end-{number}"))[0] != 200:
                assert answer[0] == 503, answer
            await asyncio.to_thread(reader.read_to, answer[1]["position"])
        assert reader.reasons == ["start"]


async def test_a_pooler_that_keeps_connections_passes_notifications_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake_ups, "POLL_SECONDS", 3600.0)
    with PgBouncer(shared(), "session", connections=10) as pooler:
        url = shared().new_url(port=pooler.port)
        here, there = [await new_journal(Retention(), url) for _ in range(2)]
        try:
            wakes, waiting = there._wake_ups, asyncio.create_task(there.wait(START))
            await eventually(lambda: wakes._next_poll and not wakes._connection._lock.locked())
            await write(here, entry(value("a", 1)))
            await asyncio.wait_for(waiting, 10)
        finally:
            await here.close()
            await there.close()
