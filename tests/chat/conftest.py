"""Fixtures that the chat tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import Server
from tests.support.chats import chatty


@pytest.fixture(scope="module")
def patient(upstream: str) -> Iterator[Server]:
    """A chat on our upstream, with all the time in the world."""
    with chatty(upstream) as server:
        yield server
