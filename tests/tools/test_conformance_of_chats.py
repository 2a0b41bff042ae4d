"""`statestream conformance --chat`: clients of a good chat may be cut anywhere, and each fault of a chat is found.

`make soak` cuts the clients of each protocol ten thousand times.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from statestream.tools.conformance import Outcome, check_chat
from statestream.tools.conformance.chats.comparison import first_difference, not_a_beginning
from statestream.tools.conformance.chats.cuts import CutChooser
from statestream.tools.conformance.chats.event_blocks import EventBlocks
from statestream.tools.conformance.chats.following import Following
from statestream.tools.conformance.chats.plain_text import PlainTextReader
from statestream.tools.conformance.chats.protocols import PROTOCOLS
from statestream.tools.conformance.chats.reply_under_test import ReplyUnderTest
from statestream.tools.conformance.violation import Violation
from tests.support import ROOT, Server, serving
from tests.support.nursery import finished
from tests.support.wrong import Answered, Asked, Fault, Wrong

EVERYTHING = f"{ROOT / 'tests/apps/everything.py'}:app"
NAMES = [protocol.name for protocol in PROTOCOLS]


@pytest.fixture(scope="module")
def good() -> Iterator[Server]:
    with Server.serving(EVERYTHING, env={"PACE": "0.01", "PYTHONPATH": str(ROOT)}) as running:
        yield running


async def command(*arguments: str) -> tuple[int, str, str]:
    """The command's exit code, what it printed, and what it complained about."""
    ran = await asyncio.to_thread(lambda: finished("conformance", "--chat", *arguments, seconds=100))
    assert "Traceback" not in ran.err, ran
    return ran.code, ran.out, ran.err


def problems(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.check.name: outcome.problem for outcome in outcomes if outcome.problem is not None}


# good chats


async def test_clients_of_our_chat_may_be_cut_anywhere(good: Server) -> None:
    code, out, err = await command(f"{good.url}/model", "--cuts", "100", "--ask", "everything", "--approve")
    assert code == 0, out + err
    assert "6 of 6 promises kept" in out
    assert re.match(r"100 cuts for each protocol, with --seed \d+\n", out)
    assert out.count("passed  ") == len(NAMES)


@pytest.mark.parametrize(
    ("path", "ask", "approve"), [("agent", "everything", True), ("agent", "fail", True), ("model", "all", False)]
)
async def test_so_may_those_of_an_agent_of_a_reply_that_fails_and_of_one_that_is_denied(
    good: Server, path: str, ask: str, approve: bool
) -> None:
    seed = random.randrange(1 << 30)
    cuts = 60 if path == "agent" and ask == "everything" else 8
    outcomes = await check_chat(f"{good.url}/{path}", ask=ask, cuts=cuts, seed=seed, approve=approve)
    assert problems(outcomes) == {}, seed
    assert [outcome.check.name for outcome in outcomes] == NAMES


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", ["model", "agent"])
async def test_ten_thousand_cuts_in_each_protocol(good: Server, path: str) -> None:
    seed, clock = random.randrange(1 << 30), asyncio.get_running_loop().time
    began = clock()
    outcomes = await check_chat(f"{good.url}/{path}", ask="everything", cuts=10_000, seed=seed, approve=True)
    for outcome in outcomes:
        print(f"{path}, seed {seed}: {outcome.check.name}: {outcome.note}, {outcome.problem or 'no difference'}")
    print(f"{clock() - began:.0f} s")
    assert problems(outcomes) == {}


class StoppedServer:
    """A server whose reply waits until somebody has connected, and was stopped then."""

    status = "waiting"

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return {"messages": [{"id": "r", "parent": "q", "status": self.status, "parts": []}]}


class Closing:
    async def next(self) -> None:
        """The stream is over, because the reply waits."""

    async def close(self) -> None:
        """Nothing is open."""


class Latecomer:
    """A client that sees the reply as it is when it connects."""

    follows = False
    held_status = ""

    def __init__(self, server: StoppedServer) -> None:
        self.server = server

    async def connect(self) -> Closing:
        await asyncio.sleep(0)
        self.held_status, self.server.status = self.server.status, "stopped"
        return Closing()

    def end(self) -> None:
        """It may end here."""


async def test_what_a_client_has_loaded_while_the_reply_was_being_stopped_is_not_its_end() -> None:
    server: Any = StoppedServer()
    reply = ReplyUnderTest(server, "chat", "text", approve=True, stop_after=1.0)
    reply.question = "q"
    client: Any = Latecomer(server)
    following = Following(lambda: client, reply)
    async with reply.turn():
        task = asyncio.create_task(following.follow())
        while not client.held_status:
            await asyncio.sleep(0)
        await reply.look()
    await task
    assert (following.problem, client.held_status) == (None, "stopped")


# faults


def frames(path: str, spoil: Callable[[Asked, bytes], bytes | None], **query: str) -> Fault:
    """Frames of the streams at that path, or of those whose query has such members, are spoilt."""

    def frame(asked: Asked, number: int, block: bytes) -> bytes | None:
        there = re.search(path, f"{asked.method} {asked.path}") and all(asked.query.get(name) for name in query)
        return spoil(asked, block) if there else block

    return Fault(frame=frame)


def all_of(*faults: Fault) -> Fault:
    """Several faults at once: each is reported by its protocol."""

    def frame(asked: Asked, number: int, block: bytes) -> bytes | None:
        spoilt: bytes | None = block
        for fault in faults:
            spoilt = None if spoilt is None else fault.frame(asked, number, spoilt)
        return spoilt

    return Fault(frame=frame)


def replaced(pattern: bytes, instead: bytes) -> Callable[[Asked, bytes], bytes]:
    return lambda asked, block: re.sub(pattern, instead, block)


def without(pattern: bytes, at: int = 0) -> Callable[[Asked, bytes], bytes | None]:
    """The frame that matches for the `at`th time in a stream is lost."""
    seen: Counter[int] = Counter()

    def spoil(asked: Asked, block: bytes) -> bytes | None:
        if not re.search(pattern, block):
            return block
        seen[id(asked)] += 1
        return None if seen[id(asked)] == at + 1 else block

    return spoil


def twice(pattern: bytes, between: bytes = b"") -> Callable[[Asked, bytes], bytes]:
    return lambda asked, block: block + between + block if re.search(pattern, block) else block


def swapped(pattern: bytes) -> Callable[[Asked, bytes], bytes | None]:
    """Two frames that match change places, wherever the second one comes; a single one is lost."""
    kept: dict[int, bytes] = {}

    def spoil(asked: Asked, block: bytes) -> bytes | None:
        if not re.search(pattern, block):
            return block
        if id(asked) in kept:
            return block + kept.pop(id(asked))
        kept[id(asked)] = block
        return None

    return spoil


GRIN = "👩".encode()
RESUMED = r"GET .*/api/chat/[^/]+/stream$"
PAGE = rf"POST .*/api/chat$|{RESUMED}"
SOCKET = "GET .*/api/chat$"
FAULTS: list[dict[str, tuple[Fault, str]]] = [
    {
        "ai-sdk": (frames(RESUMED, replaced(rb'"messageId":"', b'"messageId":"new-')), "new-"),
        "ai-sdk-socket": (frames(SOCKET, without(rb'"text-delta"', 3)), "expected the sequence"),
        "text": (frames("POST .*/api/chats/", replaced(GRIN, GRIN[:3])), "expected UTF-8"),
        "ag-ui": (frames("/ag-ui", swapped(rb"TOOL_CALL_RESULT")), "expected messages"),
        "phases": (frames("/ws", twice(rb"stream_chunk\":true", b"\n"), position="any"), "expected"),
        "state": (frames("/stream/state", without(rb"event: state.update", 4)), "a gap"),
    },
    {
        "ai-sdk": (frames(PAGE, without(rb'"text-delta"', 2)), "expected"),
        "ai-sdk-socket": (frames(SOCKET, twice(rb'"text-delta"', b"\n")), "expected the sequence"),
        "text": (frames("POST .*/api/chats/", replaced(GRIN, "�".encode())), "expected text"),
        "ag-ui": (frames("/ag-ui", without(rb"TEXT_MESSAGE_CONTENT", 5)), "expected"),
        "phases": (frames("/ws", without(rb"stream_chunk\":true", 3)), "expected"),
        "state": (frames("/stream/state", twice(rb"event: state.update")), "once"),
    },
    {
        "ai-sdk": (frames(RESUMED, replaced(rb"\xf0\x9f\x91\xa9", b"\\\\ud83d")), "expected JSON"),
        "ai-sdk-socket": (
            frames(SOCKET, replaced(rb'"toolName":"(\w+)"', rb'"toolName":"\1x"')),
            "expected parts",
        ),
        "ag-ui": (frames("/ag-ui", without(rb"TEXT_MESSAGE_END")), "to be closed at RUN_FINISHED"),
        "phases": (frames("/ws", replaced(rb'"id":"', b'"id":"x'), position="any"), "to have begun"),
        "state": (frames("/stream/state", replaced(rb"event: state.resumed", b"event: state.initial")), "expected"),
    },
]
"""By protocol: a fault of the server, and words of the problem that it is."""


@pytest.mark.parametrize("faults", FAULTS, ids=["first", "second", "third"])
async def test_each_protocol_finds_its_fault(good: Server, faults: dict[str, tuple[Fault, str]]) -> None:
    async with Wrong(good=good.url, fault=all_of(*(fault for fault, _ in faults.values()))) as wrong:
        outcomes = await check_chat(
            f"{wrong.url}/model", ask="everything", cuts=12, seed=7, approve=True, only=[*faults]
        )
    found = problems(outcomes)
    for name, (_, words) in faults.items():
        assert words in found.get(name, "no problem"), (name, found)


async def test_what_fails_for_those_who_load_the_reply_after_its_end_is_a_problem_too(good: Server) -> None:
    def answer(asked: Asked, answered: Answered) -> None:
        if asked.method == "GET" and re.search("/api/chat/[^/]+$", asked.path):
            answered.body = b"{}"

    def frame(asked: Asked, number: int, block: bytes) -> bytes:
        if b"event: state.initial" in block and b'"assistant"' in block and b'"streaming"' not in block:
            raise ConnectionResetError("the response breaks off")
        return block

    async with Wrong(good=good.url, fault=Fault(answer=answer, frame=frame)) as wrong:
        outcomes = await check_chat(f"{wrong.url}/agent", ask="fail", cuts=1, approve=True, only=["ai-sdk", "state"])
    found = problems(outcomes)
    assert "loaded after the end: expected something in the protocol's form" in found["ai-sdk"]
    assert "loaded after the end: expected the stream to continue, but the response broke off" in found["state"]


async def test_a_proxy_that_spoils_nothing_is_a_good_chat(good: Server) -> None:
    async with Wrong(good=good.url) as proxy:
        assert problems(await check_chat(f"{proxy.url}/agent", ask="everything", cuts=10, approve=True)) == {}


# what is no verdict, or another one


async def test_a_protocol_that_is_not_offered_is_absent(good: Server) -> None:
    def ask(asked: Asked) -> None:
        if asked.path.endswith(("/ws", "/ag-ui")):
            asked.path = "/nowhere"

    async with Wrong(good=good.url, fault=Fault(ask=ask)) as wrong:
        code, out, err = await command(
            f"{wrong.url}/agent", "--cuts", "2", "--only", "phases", "--only", "ag-ui", "--only", "text", "--json"
        )
    assert code == 0, out + err
    report = json.loads(out)
    assert (report["passed"], type(report["seed"])) == (True, int)
    assert {check["name"]: check.get("absent", False) for check in report["checks"]} == {
        "text": False,
        "ag-ui": True,
        "phases": True,
    }


async def test_a_server_without_a_chat_or_none_at_all_or_one_that_refuses_is_an_error(good: Server) -> None:
    async def refusing(_: web.Request) -> web.Response:
        return web.Response(status=401, text="Sign in first.")

    async with serving(refusing) as refusal:
        for url, words in [
            (good.url, "expected a server with a chat"),
            ("http://127.0.0.1:9", "expected a server at"),
            (refusal, "Sign in first."),
        ]:
            code, out, err = await command(url, "--seed", "1")
            assert (code, out) == (1, "200 cuts for each protocol, with --seed 1\n")
            assert words in err


async def test_options_that_do_not_fit_are_invalid_usage(good: Server) -> None:
    for arguments in (("--action", "a/b"), ("--only", "nothing"), ("--ask", " "), ("--cuts", "0"), ("--slices", "a")):
        code, out, _ = await command(good.url, *arguments)
        assert (code, out) == (2, ""), arguments
    ran = await asyncio.to_thread(lambda: finished("conformance", good.url, "--approve", seconds=100))
    assert (ran.code, ran.out) == (2, "")


async def test_a_reply_that_never_begins_is_a_problem_of_each_protocol(good: Server) -> None:
    def answer(asked: Asked, answered: Answered) -> None:
        if asked.method == "GET" and re.search("/api/chats/[^/]+$", asked.path):
            answered.status, answered.body = 500, b"\x1b[2J"

    async with Wrong(good=good.url, fault=Fault(answer=answer)) as wrong:
        code, out, _ = await command(f"{wrong.url}/agent", "--cuts", "1", "--only", "state")
    assert code == 1
    assert "FAILED  state" in out
    assert "got 500: \\x1b[2J" in out


# pure parts


def test_the_first_difference_is_shown_where_it_is() -> None:
    def differs(one: Any, other: Any) -> str | None:
        return first_difference(one, other)

    assert differs({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]}) is None
    assert differs({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "y"}]}) == "expected a[1].b to be 'x', got 'y'"
    assert differs([1], [True]) == "expected [0] to be 1, got true"
    assert differs([1], [1, 2]) == "expected [1] to be nothing, got 2"
    assert differs({"a": None}, {}) == "expected a to be null, got nothing"
    assert differs("x" * 100 + "a", "x" * 100 + "b") == f"expected it to be '…{'x' * 20}a', got '…{'x' * 20}b'"


def test_a_text_only_grows() -> None:
    assert not_a_beginning({"a": "He"}, {"a": "Hello", "b": ""}) is None
    assert not_a_beginning({"a": "He"}, {"b": "He"}) == "expected a to stay, got nothing in place of 'He'"
    assert "expected a to begin" in str(not_a_beginning({"a": "Hi"}, {"a": "Hello"}))


def test_blocks_are_the_same_wherever_the_bytes_are_split() -> None:
    data = "data: 👩‍👩‍👧\n\n: keep-alive\n\ndata: b\n\ndata: incomplete".encode()
    for at in range(len(data)):
        blocks = EventBlocks()
        assert blocks.feed(data[:at]) + blocks.feed(data[at:]) == ["data: 👩‍👩‍👧".encode(), b"data: b"]


def test_plain_text_waits_for_the_rest_of_a_character() -> None:
    reader, data = PlainTextReader(), "ö👩".encode()
    for byte in data[:-1]:
        reader.take(bytes([byte]))
    assert reader.held() == {"text": "ö"}
    with pytest.raises(Violation, match="the last one is incomplete"):
        reader.end()
    reader.take(data[-1:])
    reader.end()
    assert reader.held() == {"text": "ö👩"}


def test_cuts_are_chosen_by_the_seed_and_leave_no_place_out() -> None:
    def chosen(seed: int) -> list[Any]:
        chooser = CutChooser(random.Random(seed))
        chooser.frames = 40
        return [chooser.plan(100) for _ in range(40)]

    assert chosen(1) == chosen(1) != chosen(2)
    assert sorted(plan[0].after for plan in chosen(1)) == list(range(40))
