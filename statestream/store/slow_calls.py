"""Calls of the application's code that block the event loop: their names and their number.

While a handler, a listener, a tool, a model or a view runs, the server does nothing else. So each of these calls is
timed, and slow ones are logged by name and counted for the metrics. The times of all handlers are in a histogram.

Invariants: timing a call costs two readings of a clock. A line of the log has the name of the function and a duration,
never an argument. asyncio's debug mode finds blocking calls that are not timed here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, Final, Literal, TypeVar

from statestream.core.histogram import Histogram

log = logging.getLogger("statestream")

SLOW_SECONDS: Final = 0.25
"""A call that takes longer is slow: every reader has waited for that time."""

Kind = Literal["handler", "listener", "tool", "model", "agent", "view"]
T = TypeVar("T")


class SlowCalls:
    """The slow calls of one store, by kind, and the times of all calls of its handlers. `threshold` in seconds."""

    __slots__ = ("counted", "handlers", "threshold")

    def __init__(self, threshold: float = SLOW_SECONDS) -> None:
        self.threshold = threshold
        self.counted: Counter[str] = Counter()
        self.handlers = Histogram()

    def ended(self, kind: Kind, name: str, seconds: float) -> None:
        """A call has taken longer than the threshold."""
        self.counted[kind] += 1
        log.warning("the %s %s took %.3f s, in which the server did nothing else", kind, name, seconds)

    @contextmanager
    def timed(self, kind: Kind, function: Callable[..., Any]) -> Iterator[None]:
        """Times the block. It is for calls that are rarer than changes; `Transaction` times the others itself."""
        began = perf_counter()
        try:
            yield
        finally:
            self.since(began, kind, name_of(function))

    def since(self, began: float, kind: Kind, name: str) -> None:
        """A call that began then has ended now."""
        seconds = perf_counter() - began
        if seconds > self.threshold:
            self.ended(kind, name, seconds)


class Stepped(Coroutine[Any, Any, T], Generator[Any, Any, T]):
    """A coroutine whose steps are timed one by one: it may wait for as long as it likes, but not block.

    It can be the coroutine of a task, or be awaited.
    """

    def __init__(self, steps: Coroutine[Any, Any, T], slow: SlowCalls, kind: Kind, name: str) -> None:
        self._steps, self._slow, self._kind, self._name = steps, slow, kind, name

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def send(self, value: Any) -> Any:
        began = perf_counter()
        try:
            return self._steps.send(value)
        finally:
            self._slow.since(began, self._kind, self._name)

    def throw(self, *error: Any) -> Any:
        began = perf_counter()
        try:
            return self._steps.throw(*error)
        finally:
            self._slow.since(began, self._kind, self._name)

    def close(self) -> None:
        self._steps.close()


def name_of(function: Any) -> str:
    """The name of a function in the log: its module, and its name there."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or type(function).__module__}.{name}"
