"""Traces for OpenTelemetry, if a program has configured it: a span for each step of a request.

statestream uses only the API of OpenTelemetry, from the extra `otel`. What is done with spans is decided by the SDK
that the program configures, before it opens the store. A request continues the trace that the caller's context or
`traceparent` names.

Invariants: without a configured SDK there is no tracer, and a step costs one comparison. A span has ids, codes and
names that the application has declared, and nothing else of a request. Only requests and what is inside of another span
are traced, so the pieces of a reply, which are dispatched many times a second, do not fill the traces.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context

NAME: Final = "statestream"
Kind = Literal["internal", "server", "client"]
Attribute = str | bool | int | float | Sequence[str]

now: Final = time.time_ns
_tracer: trace.Tracer | None = None


def configure() -> None:
    """Looks for the SDK. Nothing is imported: a program that has configured it has imported the API."""
    global _tracer  # like the SDK's own provider, which is one for the process
    api: Any = sys.modules.get("opentelemetry.trace")
    provider = None if api is None else api.get_tracer_provider()
    without = provider is None or isinstance(provider, (api.ProxyTracerProvider, api.NoOpTracerProvider))
    _tracer = None if without else api.get_tracer(NAME)


def is_on() -> bool:
    return _tracer is not None


class Span:
    """A step of a request that has begun. `end` it once."""

    __slots__ = ("_own",)

    def __init__(self, own: trace.Span) -> None:
        self._own = own

    @property
    def context(self) -> Context:
        from opentelemetry import trace

        return trace.set_span_in_context(self._own)

    def part(self, name: str, began: int, ended: int) -> None:
        """A step within this one, which is over already. The times are those of `now`."""
        if _tracer is not None:
            _tracer.start_span(name, context=self.context, start_time=began).end(end_time=ended)

    def note(self, **attributes: Attribute) -> None:
        """Attributes of statestream's own, whose names get a prefix."""
        self.set({f"{NAME}.{name}": value for name, value in attributes.items()})

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        self._own.set_attributes(attributes)

    def fail(self, kind: str, *, ours: bool = True) -> None:
        """The step has not succeeded, for a reason of a stable name. `ours`: that is an error of the server."""
        self._own.set_attribute("error.type", kind)
        if ours:
            from opentelemetry.trace import Status, StatusCode

            self._own.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        self._own.end()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """While this lasts, spans that begin in this task are within this one."""
        from opentelemetry import context

        token = context.attach(self.context)
        try:
            yield
        finally:
            context.detach(token)


def begin(name: str, kind: Kind = "internal", attributes: Mapping[str, Attribute] | None = None) -> Span | None:
    """A step within the current one. None if nobody wants to know, or if there is no current one."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    around = trace.get_current_span().get_span_context()
    if not (around.is_valid and around.trace_flags.sampled):
        return None
    return Span(_tracer.start_span(name, kind=trace.SpanKind[kind.upper()], attributes=attributes))


def begin_request(name: str, headers: Mapping[str, str], attributes: Mapping[str, Attribute]) -> Span | None:
    """The span of a request, in the trace that its `traceparent` names, if any.

    None if nobody wants to know, or if there is a current span: then another library has made the request's.
    """
    if _tracer is None:
        return None
    from opentelemetry import propagate, trace

    if trace.get_current_span().get_span_context().is_valid:
        return None
    context = propagate.extract(headers)
    return Span(_tracer.start_span(name, context=context, kind=trace.SpanKind.SERVER, attributes=attributes))


def inside(span: Span | None) -> contextvars.Context:
    """A copy of the context in which a span is the current one; without a span, none is."""
    copy = contextvars.copy_context()
    if _tracer is not None:
        from opentelemetry import context

        copy.run(context.attach, context.Context() if span is None else span.context)
    return copy
