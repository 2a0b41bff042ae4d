"""Waiting by polling, for conditions that send no event."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any


async def eventually(check: Any, *, seconds: float = 30.0, every: float = 0.02) -> Any:
    """Polls what has no event to wait for (another process's memory, files): the result of `check` once it is true."""
    deadline = time.monotonic() + seconds
    while not (result := await found if inspect.isawaitable(found := check()) else found):
        assert time.monotonic() < deadline, f"not within {seconds} s: {check}"
        await asyncio.sleep(every)
    return result
