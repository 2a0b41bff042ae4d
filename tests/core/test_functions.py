"""Coroutine functions and generators are refused wherever a plain function is declared."""

from __future__ import annotations

import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from statestream import Slice, Store, connect
from statestream.core.functions import kind_of


def plain(*_: Any) -> None: ...


async def coroutine(*_: Any) -> None: ...


def generator(*_: Any) -> Iterator[None]:
    yield


async def async_generator(*_: Any) -> AsyncIterator[None]:
    yield


@types.coroutine
def awaitable(*_: Any) -> Iterator[None]:
    yield


class Async:
    async def __call__(self, *_: Any) -> None: ...

    async def method(self, *_: Any) -> None: ...


class Plain:
    def __call__(self, *_: Any) -> None: ...


@functools.wraps(coroutine)
def wrapper(*_: Any) -> None: ...


KINDS: list[tuple[Callable[..., Any], str]] = [
    (plain, "function"),
    (len, "function"),
    (Plain, "function"),
    (Plain(), "function"),
    (wrapper, "function"),
    (awaitable, "function"),
    (functools.partial(functools.partial(plain)), "function"),
    (coroutine, "coroutine function"),
    (functools.partial(coroutine), "coroutine function"),
    (Async(), "coroutine function"),
    (functools.partial(Async()), "coroutine function"),
    (Async().method, "coroutine function"),
    (generator, "generator function"),
    (functools.partial(generator), "generator function"),
    (async_generator, "async generator function"),
]


@pytest.mark.parametrize(("function", "kind"), KINDS)
def test_what_a_callable_is(function: Any, kind: str) -> None:
    assert kind_of(function) == kind


@pytest.mark.parametrize("function", [function for function, kind in KINDS if kind != "function"])
def test_nothing_but_a_plain_function_is_taken_for_one(function: Any) -> None:
    room = Slice("room", initial={}, keyed=True)
    named = functools.update_wrapper(functools.partial(function), plain)
    declarations: list[Callable[[], Any]] = [
        lambda: room.action(named),
        lambda: room.on("other/done")(named),
        lambda: room.on("other/done", key=function)(plain),
        lambda: Store([room]).on_change(function),
        lambda: connect("http://127.0.0.1:1", on_health=function),
    ]
    for declare in declarations:
        with pytest.raises(TypeError, match="expected a plain function"):
            declare()


async def test_a_predicate_that_would_always_be_true_is_refused() -> None:
    with pytest.raises(TypeError, match="the predicate is a coroutine function"):
        await connect("http://127.0.0.1:1").wait_for(coroutine)
