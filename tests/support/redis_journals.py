"""Redis journals of the tests: on a server that all tests of a module share, or on one of the test's own."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from statestream.core.errors import JournalUnusable, Unavailable
from statestream.journal.contract import Journal, Retention
from statestream.journal.redis import RedisJournal
from tests.support.redis_server import RedisServer

SERVERS: list[RedisServer] = []
"""The shared server, once somebody needs it: a Hypothesis machine has no fixture."""
NUMBERS = itertools.count()


def shared() -> RedisServer:
    if not SERVERS:
        SERVERS.append(RedisServer().start())
    return SERVERS[0]


def remove_shared() -> None:
    while SERVERS:  # emptied, because pytest-xdist may come back to a module after its teardown
        SERVERS.pop().remove()


async def opened(
    server: RedisServer, namespace: str, retention: Retention | None = None, more: str = ""
) -> RedisJournal:
    journal = RedisJournal(f"{server.url}?namespace={namespace}{more}", retention)
    await journal.open()
    return journal


async def new_redis(retention: Retention) -> Journal:
    return await opened(shared(), f"j{next(NUMBERS)}", retention)


async def reopened(journal: Journal) -> Journal:
    assert isinstance(journal, RedisJournal)
    await journal.close()
    return await opened(shared(), journal._address.namespace, journal.retention)


async def refused(url: str) -> str:
    """Why a journal cannot be opened."""
    with pytest.raises(JournalUnusable) as error:
        await RedisJournal(url).open()
    assert "s3cret" not in str(error.value)
    return str(error.value)


async def answers(journal: RedisJournal) -> None:
    """Returns once the server can be reached again."""
    for _ in range(1_000):
        try:
            await journal.head()
        except Unavailable:
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError("the server does not come back")


def key(journal: RedisJournal, part: str) -> str:
    """The name of one of the keys of a journal."""
    return f"{{{journal._address.namespace}}}:{part}"
