"""Notices that the process is asked to stop, before the ASGI server says so.

An ASGI server ends the lifespan of its applications only after the last response is complete, and a stream never is.
Applications are not told why it waits.

Invariants: whoever handled a signal before still handles it, right after us. A signal that nobody handles stays so: it
ends the process. Outside of the main thread, nothing is noticed.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def noticing_signals(stop: Callable[[], None]) -> Iterator[None]:
    """While the context lasts, the running loop calls `stop` when a signal asks the process to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop)
        before[number](number, frame)

    for each in SIGNALS:
        handler = signal.getsignal(each)
        if callable(handler):
            before[each] = handler
            signal.signal(each, handle)
    try:
        yield
    finally:
        for number, earlier in before.items():
            if signal.getsignal(number) is handle:  # otherwise somebody else handles it now, and may call us
                signal.signal(number, earlier)
