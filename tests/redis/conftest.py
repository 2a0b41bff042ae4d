"""Redis servers of the tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from statestream.journal import Retention
from statestream.journal.redis import RedisJournal
from tests.support.redis_journals import new_redis
from tests.support.redis_server import DURABLE, RedisServer


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A server that keeps nothing over a restart, unless it is told to SAVE."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def durable_redis() -> Iterator[RedisServer]:
    """A server that flushes every write before it answers."""
    with RedisServer(*DURABLE) as running:
        yield running


@pytest.fixture
async def journal() -> AsyncIterator[RedisJournal]:
    made = await new_redis(Retention())
    assert isinstance(made, RedisJournal)
    yield made
    await made.close()
