"""What a callable is: whether calling it runs it, or makes something that has to be run.

Invariants: pure. Looks through `functools.partial` and at the `__call__` of objects, as a call does. A wrapper is what
it is itself, whatever it wraps: only its result can tell.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, Literal

Kind = Literal["function", "coroutine function", "generator function", "async generator function"]
_AWAITABLE_GENERATOR: Final = inspect.CO_ITERABLE_COROUTINE


def code_of(function: Callable[..., Any]) -> Any:
    """The function, or the method, that a call of this runs in the end."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 - what is wanted is the method itself


def kind_of(function: Callable[..., Any]) -> Kind:
    """What a callable is."""
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
    """Raises TypeError for what would have to be awaited or iterated over: its result would count as an answer."""
    kind = kind_of(function)
    if kind != "function":
        article = "an" if kind[0] == "a" else "a"
        raise TypeError(f"{what} is {article} {kind}; expected a plain function, {hint}")
