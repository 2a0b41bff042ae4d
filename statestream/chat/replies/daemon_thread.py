"""A function in a daemon thread of its own.

The event loop and the process join the threads of `asyncio.to_thread` when they end: a function that never returns
would keep them from ending. A daemon thread does not.

Invariants: the thread touches the loop only through `call_soon_threadsafe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any


async def in_daemon_thread(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """What the function returns. Raises what it raises. A cancelled caller leaves the thread to itself."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result((result, error))

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(function, **arguments)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name=f"tool-{function.__name__}", daemon=True).start()
    result, error = await future  # a pair, because a future cannot carry StopIteration
    if error is not None:
        raise error
    return result
