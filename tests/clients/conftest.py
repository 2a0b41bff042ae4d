"""Fixtures that the client tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.node import Node


@pytest.fixture(scope="module")
def replicas() -> Iterator[Node]:
    with Node("replica.mjs") as running:
        yield running
