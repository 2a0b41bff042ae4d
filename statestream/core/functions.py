"""The kind of a callable: whether calling it runs it, or makes something that has to be run.

Invariants: pure. Looks through `functools.partial` and at the `__call__` of objects, as a call does. A wrapper counts
as what it is itself, whatever it wraps: only its result can show more.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, Literal

Kind = Literal["function", "coroutine function", "generator function", "async generator function"]
_AWAITABLE_GENERATOR: Final = inspect.CO_ITERABLE_COROUTINE


def code_of(function: Callable[..., Any]) -> Any:
    """The function or method that a call of this finally runs."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 - what is wanted is the method itself


def kind_of(function: Callable[..., Any]) -> Kind:
    """The kind of a callable."""
    called = code_of(function)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        return "coroutine function"
    if inspect.isasyncgenfunction(called):
        return "async generator function"
    code = getattr(called, "__code__", None)
    if inspect.isgeneratorfunction(called) and not (code is not None and code.co_flags & _AWAITABLE_GENERATOR):
        return "generator function"
    return "function"


def check_plain(function: Callable[..., Any], what: str, hint: str) -> None:
    """Raises TypeError for a callable whose result must be awaited or iterated over: it would pass for an answer."""
    kind = kind_of(function)
    if kind != "function":
        article = "an" if kind[0] == "a" else "a"
        raise TypeError(f"{what} is {article} {kind}; expected a plain function, {hint}")
