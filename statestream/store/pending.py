"""A request in progress: it waits, runs, is appended, and is answered.

Invariants: answered once, whatever happens; further answers do nothing. An error is passed on without the frames that
raised it, because these hold the request.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import perf_counter
from typing import Final

from msgspec import Struct, field

from statestream.core.change import PendingChange, Result
from statestream.core.errors import StatestreamError
from statestream.core.histogram import Histogram
from statestream.store.tracing import Span
from statestream.store.transaction import Request

BULK_ACTIONS: Final = 50
BULK_BYTES: Final = 64 << 10
"""A request beyond these is bulk: it is a batch of its own, with a pause after it, so that small requests do not wait
for it twice, nor for many of them.
"""


class Pending(Struct, kw_only=True, eq=False):
    """A request in progress, and the future that its callers wait for."""

    request: Request
    future: asyncio.Future[Result]
    changes: list[PendingChange] = field(default_factory=list)
    error: StatestreamError | None = None
    taking: Histogram
    """Of the times from a request to its answer."""
    since: float = field(default_factory=perf_counter)
    span: Span | None = None

    @property
    def bulk(self) -> bool:
        return len(self.request.actions) > BULK_ACTIONS or self.request.size > BULK_BYTES

    def answer(self, result: Result) -> None:
        if not self.future.done():
            self.taking.observe(perf_counter() - self.since)
            self.future.set_result(result)
        if self.span is not None:
            self.span.note(position=str(result.position), duplicate=result.duplicate)
            self._end_span()

    def fail(self, error: StatestreamError) -> None:
        self.error = None
        _forget_frames(error)
        if not self.future.done():
            self.taking.observe(perf_counter() - self.since)
            self.future.set_exception(error)
            self.future.exception()  # mark it as retrieved: the caller may have left
        if self.span is not None:
            self.span.fail(error.why, ours=error.status >= HTTPStatus.INTERNAL_SERVER_ERROR)
            self._end_span()

    def _end_span(self) -> None:
        """Once: what was answered may be failed afterwards, which does nothing."""
        if self.span is not None:
            self.span.end()
            self.span = None


def _forget_frames(error: BaseException) -> None:
    """Drops the tracebacks, which the log has if they matter: their frames have the request, which has the error."""
    chain: BaseException | None = error
    while chain is not None:
        chain.__traceback__ = None
        chain = chain.__cause__ or chain.__context__
