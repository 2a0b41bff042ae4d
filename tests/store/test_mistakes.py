"""The errors for a program's mistakes: the thing, the place, and the correct form."""

from __future__ import annotations

import datetime
import decimal
import functools
import numbers
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from statestream import Action, HandlerFailed, InvalidPayload, Malformed, Slice, Store, create_app
from statestream.chat import Chat
from statestream.core.draft import produce
from statestream.core.errors import NotJSON, UnknownAction, UnknownSlice
from tests.apps.board import board, joined, room, task_added

chat = Chat()


def handler(state: Any) -> None: ...


def with_type(action_type: str) -> Slice:
    """A slice that handles another's action."""
    other = Slice("other", initial=0)
    other.on(action_type)(handler)
    return other


RESERVED = "is reserved for the server itself; give your slice another"
DECLARED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a name in capitals": (lambda: Slice("Board", initial=0), Malformed, r"letter.*, got Board"),
    "a name with a blank": (lambda: Slice(" board", initial=0), Malformed, "leave out the blanks"),
    "no text as a name": (lambda: Slice(5, initial=0), Malformed, "the name of a slice as text, got int"),  # type: ignore[arg-type]
    "a set as initial value": (lambda: Slice("tags", initial={"a": {1}}), NotJSON, r"/a: .*sorted.* slice tags"),
    "@action()": (lambda: board.action(), TypeError, r"write @board\.action without parentheses"),  # type: ignore[call-overload]
    '@action("name")': (lambda: board.action("name"), TypeError, "without parentheses"),  # type: ignore[call-overload]
    "a lambda": (lambda: board.action(lambda state: None), TypeError, "declare it with def"),
    "a partial": (lambda: board.action(functools.partial(handler)), TypeError, "declare it with def"),
    "an action twice": (lambda: room.action(task_added), TypeError, r"board/task_added is an action.*\.on\("),  # type: ignore[arg-type]
    "@on without an action": (lambda: room.on(handler), TypeError, r"@room\.on\(task_added\), got function"),  # type: ignore[arg-type]
    "@on(action)()": (lambda: room.on(task_added)(None), TypeError, "line above the handler"),  # type: ignore[arg-type]
    "Store(slice)": (lambda: Store(board), TypeError, r"write Store\(\[board\]\)"),  # type: ignore[arg-type]
    "Store(slice, slice)": (lambda: Store(board, room), TypeError, r"write Store\(\[board, room\]\)"),  # type: ignore[arg-type]
    "Store(text)": (lambda: Store("board"), TypeError, "a list of slices.*, got str"),  # type: ignore[arg-type]
    "Store([text])": (lambda: Store(["board"]), TypeError, "expected slices, got str"),  # type: ignore[list-item]
    "Store([action])": (lambda: Store([task_added]), TypeError, "pass board, the slice that declares"),  # type: ignore[list-item]
    "Store([chat])": (lambda: Store([chat]), TypeError, r"Store\(\[\*chat\.slices\]\)"),  # type: ignore[list-item]
    "a slice twice": (lambda: Store([board, board]), ValueError, "'board' twice"),
    "the slice of revocations": (lambda: Store([Slice("revocation", initial=0)]), ValueError, RESERVED),
    "the slice of versions": (lambda: Store([Slice("slice_version", initial=0, keyed=True)]), ValueError, RESERVED),
    "the slice of tickets": (lambda: Store([Slice("stream_ticket", initial=0, keyed=True)]), ValueError, RESERVED),
    "the name of the server": (lambda: Store([Slice("statestream", initial=0)]), ValueError, RESERVED),
    "on() of a misspelt action": (
        lambda: Store([board, with_type("board/task_aded")]),
        ValueError,
        r"other handles it; did you mean board/task_added\?",
    ),
    "on() of a slice that is not there": (
        lambda: Store([with_type("bord/task_added"), board, room]),
        ValueError,
        r"did you mean board\?",
    ),
    "a path as a journal": (lambda: Store([board], journal=Path("a.db")), TypeError, "sqlite:///a.db"),  # type: ignore[arg-type]
    "a file as a journal": (lambda: Store([board], journal="a.db"), ValueError, "sqlite:///a.db"),
    "a number as a journal": (lambda: Store([board], journal=5), TypeError, "the URL of one.*, got int"),  # type: ignore[arg-type]
    "create_app(slice)": (lambda: create_app(board), TypeError, r"create_app\(Store\(\[board\]\)\), got Slice"),  # type: ignore[arg-type]
    "create_app(Store)": (lambda: create_app(Store), TypeError, "the class Store"),  # type: ignore[arg-type]
    "heartbeat=0": (lambda: create_app(Store([board]), heartbeat=0), ValueError, "`heartbeat` .*more than 0"),
    'max_body="1"': (lambda: create_app(Store([board]), max_body="1"), TypeError, "`max_body` .*got str"),  # type: ignore[arg-type]
    'query="token"': (lambda: create_app(Store([board]), query="token"), TypeError, r'\["token"\]'),
    "a name as a model": (lambda: Chat(model="gpt-5"), TypeError, r'OpenAIModel\("gpt-5"\)'),  # type: ignore[arg-type]
    "seconds as timeouts": (lambda: Chat(timeouts=30), TypeError, r"Timeouts\(total=…\), got int"),  # type: ignore[arg-type]
    "window=0": (lambda: Chat(window=0), ValueError, "`window` .*more than 0"),
    "@tool()": (lambda: chat.tool(), TypeError, r"write @chat\.tool without parentheses"),
    "setup(store)": (lambda: chat.setup(Store([board])), TypeError, r"that create_app\(store\) returns"),  # type: ignore[arg-type]
    "setup of another application": (lambda: chat.setup(web.Application()), TypeError, "that create_app"),
    "setup without the slices": (
        lambda: chat.setup(create_app(Store([board]))),
        ValueError,
        r"Store\(\[\*chat\.slices\]\); it lacks chat, ",
    ),
}


@pytest.mark.parametrize("what", DECLARED)
def test_a_declaration_that_is_wrong_is_refused_with_the_way_to_write_it(what: str) -> None:
    declare, kind, words = DECLARED[what]
    with pytest.raises(kind, match=words):
        declare()


def test_an_annotation_that_is_not_defined_is_said_with_its_handler() -> None:
    scope: dict[str, Any] = {}
    exec("def sent(state, *, at: Whenever) -> None: ...", scope)  # Whenever is nowhere
    scope["sent"].__annotations__["at"] = "Whenever"
    with pytest.raises(TypeError, match=r"annotation of sent .*Whenever"):
        Slice("post", initial=0).action(scope["sent"])


DISPATCHED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "the creator": (task_added, {}, TypeError, r"call it, as in task_added\(…\)"),
    "a type": ("board/task_added", {}, TypeError, r"Action\(type=…, payload=…\).*got str"),
    "a dict": ({"type": "board/cleared"}, {}, TypeError, "got dict"),
    "nothing": (None, {}, TypeError, "got NoneType"),
    "a misspelt action": (Action(type="board/task_aded"), {}, UnknownAction, r"did you mean board/task_added\?"),
    "a misspelt slice": (Action(type="bord/task_added"), {}, UnknownAction, r"did you mean board/task_added\?"),
    "no slice": (Action(type="task_added"), {}, UnknownAction, r"a slice, a slash and a name.*board/task_added\?"),
    "another action": (Action(type="room/painted"), {}, UnknownAction, "the actions are room/closed, room/joined"),
    "no key": (
        Action(type="room/joined", payload={"name": "x"}),
        {},
        Malformed,
        "needs a key, because room",
    ),
    "a key": (Action(type="board/cleared", key="1"), {}, Malformed, "no key, because board is a plain slice"),
    "a key with a blank": (Action(type="room/closed", key="a b"), {}, Malformed, r"did you mean a%20b\?"),
    "a key in another spelling": (Action(type="room/closed", key="a%2fb"), {}, Malformed, r"did you mean a%2Fb\?"),
    "a key that is a number": (Action(type="room/closed", key=5), {}, Malformed, "a key as text, got int"),  # type: ignore[arg-type]
    "an id that is a number": (Action(type="board/cleared"), {"id": 5}, Malformed, "an id as text, got int"),
    "expect of a family": (Action(type="board/cleared"), {"expect": {"room": 1}}, UnknownSlice, "in `expect`.*<key>$"),
    "expect of a typo": (Action(type="board/cleared"), {"expect": {"bord": 1}}, UnknownSlice, r"did you mean board\?"),
    "a version as text": (Action(type="board/cleared"), {"expect": {"board": "1"}}, Malformed, "whole number.*board"),
    "a misspelt field": (
        Action(type="board/task_added", payload={"id": "1", "titel": "x"}),
        {},
        InvalidPayload,
        r"^board/task_added: at /titel: there is no such field; did you mean title\?",
    ),
    "a field of another type": (
        Action(type="board/task_added", payload={"id": 1, "title": "x"}),
        {},
        InvalidPayload,
        "^board/task_added: at /id: .*string",
    ),
}


@pytest.mark.parametrize("what", DISPATCHED)
async def test_a_dispatch_that_is_wrong_is_refused_with_what_may_have_been_meant(what: str) -> None:
    action, more, kind, words = DISPATCHED[what]
    async with Store([board, room, Slice("counter", initial=0)]) as store:
        with pytest.raises(kind, match=words):
            await store.dispatch(action, **more)


def test_a_creator_names_the_field_that_was_misspelt() -> None:
    with pytest.raises(InvalidPayload, match=r"/titel: .*did you mean title\?"):
        task_added(id="1", titel="Ship it")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="the key and then named arguments for room/joined"):
        joined(name="Ada")


async def test_no_suggestion_is_a_secret() -> None:
    """A text that does not look like a name is not repeated: it may be what was meant to be the payload."""
    async with Store([board, Slice("counter", initial=0)]) as store:
        with pytest.raises(UnknownAction) as unknown:
            await store.dispatch(Action(type='{"password": "sesame"}'))
        assert "sesame" not in str(unknown.value)
        assert "board/task_added" in str(unknown.value)


class Count(numbers.Integral):
    """A number of another library."""

    def __int__(self) -> int:
        return 7


Count.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def numpy(expression: str) -> Any:
    return eval(expression, {"np": np})


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (Count, 7),
        (lambda: numpy("np.int64(7)"), 7),
        (lambda: numpy("np.uint8(7)"), 7),
        (lambda: numpy("np.float64(0.5)"), 0.5),
        (lambda: numpy("np.float32(0.5)"), 0.5),
        (lambda: numpy("np.bool_(True)"), True),
        (lambda: numpy("np.str_('a')"), "a"),
        (lambda: numpy("np.array(7)"), 7),
    ],
)
def test_the_numbers_of_other_libraries_are_numbers(make: Callable[[], Any], value: Any) -> None:
    def put(state: Any) -> None:
        state["n"] = make()

    after, operations = produce({}, put)
    assert after == {"n": value}
    assert type(after["n"]) is type(value)
    assert operations == [{"op": "add", "path": "/n", "value": value}]
    several = Slice("several", initial=0)

    @several.action
    def sent(state: Any, *, values: list[int | float | str | bool]) -> None: ...

    assert sent(values=[make()]).payload == {"values": [value]}


@pytest.mark.parametrize(
    ("value", "way"),
    [
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "isoformat"),
        (datetime.timedelta(1), "total_seconds"),
        (decimal.Decimal("0.1"), r"str\(…\), or float"),
        (uuid.UUID(int=1), "str"),
        ({1}, "sorted"),
        (b"x", "decode"),
        (iter([1]), "list"),
        (Path("x"), "str"),
    ],
)
def test_what_is_not_json_is_refused_with_its_way_to_json(value: Any, way: str) -> None:
    with pytest.raises(NotJSON, match=f"at /v: expected a JSON value, .*convert it first: {way}"):
        produce({}, lambda state: {"v": value})


shop = Slice("shop", initial={"of": {}, "total": 1})


@shop.action
def put(state: Any, *, name: str, deep: Any = None) -> None:
    state["of"][name] = deep


@shop.action
def multiplied(state: Any, *, by: float) -> None:
    state["total"] *= by


@shop.action
def stamped(state: Any) -> None:
    state["of"]["when"] = datetime.datetime.now(datetime.UTC)


shelf = Slice("shelf", initial=0, keyed=True)


@shelf.on(put, key=lambda action: str(action.payload["name"]))
def counted(state: int, *, name: str) -> int:
    return state + 1


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (put(name="__proto__"), "shop/put would make shop a state that is not allowed: at /of: the key '__proto__'"),
        (put(name="x", deep=nested(62)), "at /of/x.*: containers are nested more than 64 deep"),
        (multiplied(by=1e300), "never reached"),
        (put(name="a b"), r"shop/put does not fit shelf: .*a%20b"),
    ],
    ids=["a key", "a depth", "a number", "an instance"],
)
async def test_what_a_client_has_chosen_is_not_the_servers_fault(
    action: Action, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store([shop, shelf]) as store:
        if action.type == "shop/multiplied":
            await store.dispatch(action)
            words = "at /total: expected a finite number"
        before = store.get("shop")
        with pytest.raises(InvalidPayload, match=words):
            await store.dispatch(action)
        assert store.get("shop") == before
    assert not caplog.records


async def test_what_only_a_handler_can_do_is_the_servers_fault() -> None:
    async with Store([shop, shelf]) as store:
        with pytest.raises(HandlerFailed, match="datetime; convert it first: isoformat"):
            await store.dispatch(stamped())
