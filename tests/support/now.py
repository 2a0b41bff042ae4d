"""Reads a store on a journal in memory without waiting: whatever is away is there at once."""

from __future__ import annotations

from typing import Any

from statestream import Store


def now(store: Store, name: str) -> Any:
    """The value of a slice or instance; None if it does not exist."""
    reading = store.read(name)
    while True:
        try:
            reading.send(None)
        except StopIteration as done:
            return done.value
