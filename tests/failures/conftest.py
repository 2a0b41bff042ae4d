"""Journals on servers of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import RedisServer


@pytest.fixture(params=["postgresql", "redis", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a journal that is empty."""
    with ExitStack() as stack:
        if request.param == "postgresql":
            yield stack.enter_context(PostgreSQL()).url()
        elif request.param == "redis":
            yield stack.enter_context(RedisServer()).url
        else:
            yield f"sqlite:///{tmp_path / 'journal.db'}"
