"""Redis servers of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
