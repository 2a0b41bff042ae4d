"""Journals of every engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_journals import remove_shared
from tests.support.rooms import ENGINES, MakeJournal, journals


@pytest.fixture(params=ENGINES)
def make_journal(request: pytest.FixtureRequest, tmp_path: Path) -> MakeJournal:
    """Each call is another node's journal object of one history."""
    return journals(request.param, tmp_path)


@pytest.fixture(scope="module", autouse=True)
def _no_server_left() -> Iterator[None]:
    yield
    remove_shared()
