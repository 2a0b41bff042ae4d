"""`statestream conformance`: a good server passes, and each check finds the server that breaks its promise.

`make soak` adds that it passes with each action in each mode; `make test` has each of them once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from statestream.tools.conformance import CHECKS, Outcome, check_server
from statestream.tools.conformance.clients.transcript import Transcript
from tests.support import MODES, ROOT, Server, serving
from tests.support.nursery import finished
from tests.support.wrong import Answered, Asked, Fault, Wrong

QUICK = f"{ROOT / 'tests/apps/quick.py'}:app"
COUNTED = ("--action", "board/counted")
ROOMS = ("--action", "room/joined", "--key", "k{n}", "--payload", '{"name": "{n}"}')
TICKETED = f"{ROOT / 'tests/apps/ticketed.py'}:app"
NOTED = ("--action", "board/noted", "--payload", '{"text": "{run}{n}"}', "--header", "Authorization: Bearer ann")
TASKS = ("--action", "board/task_added", "--payload", '{"id": "{n}", "title": "{run} is a run"}', "--slices", "*")
ACTIONS = [COUNTED, ROOMS, TASKS]


@pytest.fixture(scope="module")
def good() -> Iterator[Server]:
    """A heartbeat of 200 ms."""
    with Server.serving(QUICK, env={"HEARTBEAT": "0.2", "KEPT": "10000", "PYTHONPATH": str(ROOT)}) as running:
        yield running


@pytest.fixture(scope="module")
def authenticating() -> Iterator[Server]:
    """It recognizes who asks, and issues tickets."""
    with Server("serve", TICKETED) as running:
        yield running


async def command(*arguments: str) -> tuple[int, str, str]:
    """The command's exit code, what it printed, and what it complained about."""
    ran = await asyncio.to_thread(lambda: finished("conformance", *arguments, seconds=100))
    assert "Traceback" not in ran.err, ran
    return ran.code, ran.out, ran.err


def plain(err: str) -> str:
    """Without the frame that typer draws around a wrong call."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", err).split())


async def outcomes(url: str, *only: str) -> list[Outcome]:
    return await check_server(url, action="board/counted", only=only)


# good servers


@pytest.mark.parametrize(
    ("each_mode", "action"),
    [
        pytest.param(
            mode, action, id=f"{mode}-{action[1]}", marks=[] if ACTIONS.index(action) == turn else [pytest.mark.soak]
        )
        for turn, mode in enumerate(MODES)
        for action in ACTIONS
    ],
    indirect=["each_mode"],
)
@pytest.mark.usefixtures("each_mode")
async def test_our_server_keeps_every_promise(tmp_path: Path, action: tuple[str, ...]) -> None:
    env = {"HEARTBEAT": "0.2", "KEPT": "10000", "JOURNAL": str(tmp_path / "j.db"), "PYTHONPATH": str(ROOT)}
    with Server.serving(QUICK, env=env) as server:
        code, out, err = await command(server.url, *action)
    assert code == 0, out + err
    assert f"{len(CHECKS)} of {len(CHECKS)} promises kept" in out
    assert out.count("passed  ") == len(CHECKS)


async def test_a_server_that_authenticates_keeps_them_too(authenticating: Server) -> None:
    code, out, err = await command(authenticating.url, *NOTED)
    assert code == 0, out + err
    assert f"{len(CHECKS)} of {len(CHECKS)} promises kept" in out


async def test_a_proxy_that_spoils_nothing_is_a_good_server(good: Server) -> None:
    async with Wrong(good=good.url) as proxy:
        assert [(o.check.name, o.problem) for o in await outcomes(proxy.url) if not o.passed] == []


async def test_the_earliest_position_may_be_trimmed_while_somebody_asks_for_it() -> None:
    with Server.serving(f"{ROOT / 'tests/apps/trimmed.py'}:app", env={"PYTHONPATH": str(ROOT)}) as server:
        assert [(o.check.name, o.problem) for o in await outcomes(server.url, "earliest") if not o.passed] == []


# wrong servers


def without(*names: str) -> Callable[[Asked], None]:
    """The request goes through without these headers and members of its query."""

    def ask(asked: Asked) -> None:
        for name in names:
            asked.headers.pop(name, None)
            asked.query.pop(name, None)

    return ask


def head(**headers: str) -> Fault:
    def answer(asked: Asked, answered: Answered) -> None:
        answered.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    return Fault(answer=answer)


def status(found: int, said: int, path: str = "") -> Fault:
    def answer(asked: Asked, answered: Answered) -> None:
        if answered.status == found and path in asked.path:
            answered.status = said

    return Fault(answer=answer)


def said(pattern: bytes, instead: bytes, path: str = "") -> Fault:
    """Whole answers say something else."""

    def answer(asked: Asked, answered: Answered) -> None:
        if path in asked.path:
            answered.body = re.sub(pattern, instead, answered.body)

    return Fault(answer=answer)


def frames(pattern: bytes, instead: bytes) -> Fault:
    """Frames say something else."""
    return Fault(frame=lambda asked, number, frame: re.sub(pattern, instead, frame))


def lost(number: int, *, resumed: bool = False) -> Fault:
    """A frame of each stream is lost, or of those that come with a cursor."""
    return Fault(frame=lambda asked, at, frame: None if at == number and (asked.cursor or not resumed) else frame)


def twice(number: int) -> Fault:
    return Fault(frame=lambda asked, at, frame: frame * (2 if at == number else 1))


def body(change: Callable[[Any], None]) -> Fault:
    """What is dispatched is changed on its way."""

    def ask(asked: Asked) -> None:
        try:
            found = json.loads(asked.body)
            change(found)
        except (ValueError, TypeError, AttributeError, KeyError):
            return
        asked.body = json.dumps(found).encode()

    return Fault(ask=ask)


def asks_what_it_knows(asked: Asked) -> None:
    """Parameters that it does not know are ignored, but for streams, which would not end."""
    if asked.path != "/stream/state":
        asked.query.pop("slice", None)


def forgetful() -> Fault:
    """Ids mean nothing to it."""
    counter = itertools.count()

    def ask(asked: Asked) -> None:
        if asked.path == "/dispatch":
            asked.body = re.sub(rb'"id":"(conf[^"]*)"', rb'"id":"\1.%d"' % next(counter), asked.body)

    def answer(asked: Asked, answered: Answered) -> None:
        answered.body = re.sub(rb'"id":"(conf[^"]*?)\.\d+"', rb'"id":"\1"', answered.body)

    return Fault(ask=ask, answer=answer)


def stale() -> Fault:
    """Every stream begins with the first state that was ever sent."""
    first: list[bytes] = []

    def frame(asked: Asked, number: int, block: bytes) -> bytes:
        if number:
            return block
        first.append(block)
        return first[0]

    return Fault(frame=frame)


def after_wins(asked: Asked) -> None:
    if "after" in asked.query:
        asked.headers.pop("Last-Event-ID", None)


def ignores_the_middle(asked: Asked, number: int, frame: bytes) -> bytes:
    return re.sub(rb'several"', b'other"', frame) if number % 2 else frame


def lenient(asked: Asked) -> None:
    if b"__proto__" in asked.body:
        asked.body = re.sub(rb"\{.__proto__.*?\}\}", b"{}", asked.body)


def no_head(asked: Asked) -> None:
    if asked.method == "HEAD":
        asked.method, asked.path = "GET", "/metrics"


def always_json(asked: Asked) -> None:
    if asked.path == "/dispatch":
        asked.headers["Content-Type"] = "application/json"


def any_slice(asked: Asked) -> None:
    if asked.query.get("slices", "").startswith("no_such"):
        asked.query["slices"] = "board"


def no_etag(asked: Asked, answered: Answered) -> None:
    answered.headers = {name: value for name, value in answered.headers.items() if name.lower() != "etag"}


def old_is_refused(asked: Asked, answered: Answered) -> None:
    if asked.old:
        answered.status = 505


def unreadable_is_400(asked: Asked, answered: Answered) -> None:
    if asked.cursor == "x":
        answered.status = 400


def tells_the_payload(asked: Asked, answered: Answered) -> None:
    if answered.status == 404 and asked.path == "/dispatch":
        answered.body = answered.body.replace(
            b'"detail":"', b'"detail":' + json.dumps(asked.body.decode())[:-1].encode()
        )


def spoil_cursor(asked: Asked) -> None:
    """It never finds its own positions again."""
    if "Last-Event-ID" in asked.headers:
        asked.headers["Last-Event-ID"] += "x"


FAULTS: list[tuple[str, str, Fault]] = [
    ("headers", "no-transform", head(Cache_Control="no-store")),
    ("headers", "X-Accel-Buffering", head(X_Accel_Buffering="yes")),
    ("headers", "charset", head(Content_Type="text/event-stream")),
    ("first-frame", "retry", frames(rb"retry: \d+\n", b"")),
    ("first-frame", "reason start", frames(rb'"reason":"start"', b'"reason":"lagged"')),
    ("first-frame", "a version for every slice", frames(rb'"versions":\{', b'"versions":{"other":1,')),
    ("updates", "cause", frames(rb'"cause":\{"type":"[^"]*"', b'"cause":{"type":"other/one"')),
    ("updates", "CR", frames(rb"\nid: ", b"\r\nid: ")),
    ("updates", "one data line", frames(rb"\ndata: \{", b"\ndata: {\ndata: ")),
    ("updates", "`type`", frames(rb'"type":"state.update"', b'"type":"state.other"')),
    ("updates", "one of patches", frames(rb'"(value|patches)":.*?,"cause"', b'"cause"')),
    ("order", "a gap", lost(5)),
    ("order", "once", twice(5)),
    ("order", "ids that rise", frames(rb"id: (\d+)\.(.*)\n(.*update.*\n)", rb"id: 1.\2\n\3")),
    ("joining", "a gap", lost(1)),
    ("after-the-answer", "which was in the answer", stale()),
    ("earliest", "before the last", Fault(ask=without("after"))),
    ("stream-refusals", "404", status(404, 400)),
    ("http-1-0", "505", Fault(answer=old_is_refused)),
    ("heartbeat", "got none", Fault(frame=lambda a, n, frame: None if b"event: heartbeat" in frame else frame)),
    ("resume-at-every-frame", "state.resumed", Fault(ask=without("Last-Event-ID", "after"))),
    ("resume-at-every-frame", "a gap", lost(1, resumed=True)),
    ("resume-at-every-frame", "versions", frames(rb'(resumed.*"versions":\{).*?\}', rb"\1}")),
    ("cut-inside-a-frame", "to be honoured", Fault(ask=spoil_cursor)),
    ("header-wins", "state.resumed", Fault(ask=after_wins)),
    ("unreadable-cursor", "400", Fault(answer=unreadable_is_400)),
    ("forked-cursor", "forked", frames(b'"reason":"forked"', b'"reason":"invalid"')),
    ("poll-again-and-again", "everything that was missed", frames(rb"event: state.update\n.*\n.*\n\n", b"")),
    ("poll-by-url", "got none", Fault(ask=without("live"))),
    ("answers", "duplicate", said(rb'"duplicate":false', b'"duplicate":true')),
    ("answers", "the last version", said(rb'"position":"(\d+)\.', rb'"position":"\g<1>9.', "/dispatch")),
    ("repeated-id", "duplicate", forgetful()),
    ("copies-at-once", "say so", forgetful()),
    ("reused-id", "409", forgetful()),
    ("several", "between", Fault(frame=ignores_the_middle)),
    ("conditions", "409", body(lambda found: found.pop("expect"))),
    ("etag", "an ETag", Fault(answer=no_etag)),
    ("etag", "304", Fault(ask=without("If-None-Match"))),
    ("state-of-the-past", "as it was", Fault(ask=without("at"))),
    ("history", "the changes", Fault(ask=lambda asked: asked.path == "/history" and without("after")(asked))),
    ("history", "limit=2", Fault(ask=without("limit"))),
    ("history", "payloads", Fault(ask=without("cause"))),
    ("state-refusals", "404", Fault(ask=any_slice)),
    ("problems", "problem+json", head(Content_Type="application/json")),
    ("problems", "nosniff", head(X_Content_Type_Options="")),
    ("problems", "detail", said(rb',"detail":"[^"]*"', b"")),
    ("problems", "without the payload", Fault(answer=tells_the_payload)),
    ("media-types", "415", Fault(ask=always_json)),
    ("parameters", "/state with a parameter", Fault(ask=asks_what_it_knows)),
    ("methods", "405", Fault(ask=no_head)),
    ("json-limits", "__proto__", Fault(ask=lenient)),
    ("foreign-pages", "403", Fault(ask=without("Origin", "Sec-Fetch-Site"))),
    ("foreign-pages", "preflight", Fault(ask=lambda asked: asked.method == "OPTIONS" and without("Origin")(asked))),
    ("foreign-pages", "Allow-Origin", head(Access_Control_Allow_Origin="*")),
]  # fmt: skip


def set_cookie(pattern: str, instead: str, path: str = "") -> Fault:
    """Cookies are other ones."""

    def answer(asked: Asked, answered: Answered) -> None:
        for name in list(answered.headers):
            if name == "Set-Cookie" and path in asked.path:
                answered.headers[name] = re.sub(pattern, instead, answered.headers[name])

    return Fault(answer=answer)


def no_pass(asked: Asked, answered: Answered) -> None:
    if asked.path == "/stream/state":
        answered.headers.pop("Set-Cookie", None)


def lets_in(path: str) -> Fault:
    """Whoever has a cookie, of whatever kind, has all rights there."""

    def ask(asked: Asked) -> None:
        if asked.path == path and "statestream_ticket" in asked.headers.get("Cookie", ""):
            asked.headers["Authorization"] = "Bearer ann"

    return Fault(ask=ask)


def reusable() -> Fault:
    """A ticket opens more than one stream."""
    used: set[str] = set()

    def ask(asked: Asked) -> None:
        cookie = asked.headers.get("Cookie", "")
        if asked.path == "/stream/state" and cookie in used:
            asked.headers["Authorization"] = "Bearer ann"
        used.add(cookie)

    return Fault(ask=ask)


def only_the_cookie(asked: Asked) -> None:
    if "Cookie" in asked.headers:
        asked.headers.pop("Authorization", None)


FAULTS_OF_TICKETS: list[tuple[str, str, Fault]] = [
    ("ticket-cookie", "HttpOnly", set_cookie("HttpOnly; ", "")),
    ("ticket-cookie", "SameSite=Strict", set_cookie("SameSite=Strict", "SameSite=Lax")),
    ("ticket-cookie", "the path", set_cookie("Path=/", "Path=/elsewhere")),
    ("ticket-cookie", "at most 30 s", set_cookie("Max-Age=30", "Max-Age=300")),
    ("ticket-cookie", "same twice", set_cookie("=[0-9a-f]{32}[^;]*;", "=always;")),
    ("ticket-cookie", "with a ticket only", lets_in("/tickets")),
    ("ticket-once", "replace the ticket", Fault(answer=no_pass)),
    ("ticket-once", "of the same name", set_cookie("^statestream_ticket", "another", "/stream/state")),
    ("ticket-once", "used already", reusable()),
    ("passes", "GET /state", lets_in("/state")),
    ("passes", "GET /history", lets_in("/history")),
    ("passes", "POST /dispatch", lets_in("/dispatch")),
    ("passes", "foreign page", Fault(ask=without("Origin", "Sec-Fetch-Site"))),
    ("passes", "beside credentials", Fault(ask=only_the_cookie)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "word", "fault"), FAULTS_OF_TICKETS, ids=[f"{name}: {word}" for name, word, _ in FAULTS_OF_TICKETS]
)
async def test_a_server_that_breaks_a_promise_about_tickets_is_found_out(
    authenticating: Server, name: str, word: str, fault: Fault
) -> None:
    headers = {"Authorization": "Bearer ann"}
    async with Wrong(good=authenticating.url, fault=fault) as wrong:
        [outcome] = await check_server(
            wrong.url, action="board/noted", payload='{"text": "{run}{n}"}', headers=headers, only=[name]
        )
    assert word in str(outcome.problem)


@pytest.mark.parametrize(("name", "word", "fault"), FAULTS, ids=[f"{name}: {word}" for name, word, _ in FAULTS])
async def test_a_server_that_breaks_the_promise_is_found_out(
    good: Server, monkeypatch: pytest.MonkeyPatch, name: str, word: str, fault: Fault
) -> None:
    for module in ("server_under_test", "stream_under_test"):
        monkeypatch.setattr(f"statestream.tools.conformance.servers.{module}.PATIENCE", 1.0)
    async with Wrong(good=good.url, fault=fault) as wrong:
        [outcome] = await outcomes(wrong.url, name)
    assert outcome.check.name == name
    assert word in str(outcome.problem)


def test_every_check_can_fail() -> None:
    assert {name for name, _, _ in FAULTS + FAULTS_OF_TICKETS} == {check.name for check in CHECKS}


# the command


@pytest.fixture
async def broken(good: Server) -> AsyncIterator[Wrong]:
    async with Wrong(good=good.url, fault=head(Cache_Control="no-store")) as wrong:
        yield wrong


async def test_a_broken_promise_is_one_sentence_and_exit_code_1(broken: Wrong) -> None:
    code, out, _ = await command(broken.url, *COUNTED, "--only", "headers", "--only", "answers")
    assert code == 1
    assert "FAILED  headers" in out
    assert "expected no-store, no-transform, got ['no-store'] [GET /stream/state]" in out
    assert "passed  answers" in out
    assert "1 of 2 promises kept; not kept: headers" in out


async def test_the_outcomes_come_as_json(broken: Wrong) -> None:
    code, out, _ = await command(broken.url, *COUNTED, "--only", "headers", "--only", "answers", "--json")
    found = json.loads(out)
    assert (code, found["passed"], found["url"]) == (1, False, broken.url)
    assert [(one["name"], one["passed"]) for one in found["checks"]] == [("headers", False), ("answers", True)]
    assert found["checks"][1]["problem"] is None


async def test_what_cannot_be_checked_is_explained(good: Server) -> None:
    for arguments, code, word in [
        (("http://127.0.0.1:9", *COUNTED), 1, "expected a server at http://127.0.0.1:9"),
        ((good.url, "--action", "board/none"), 1, "expected board/none to change something"),
        ((good.url, *COUNTED, "--payload", '{"by": 0}'), 1, "expected board/counted to change something"),
        ((good.url, *COUNTED, "--payload", "[]"), 2, "expected the payload to be a JSON object"),
        ((good.url, *COUNTED, "--only", "nonsense"), 2, "the checks are headers, first-frame"),
        (("nonsense", *COUNTED), 2, "expected the root URL of a server"),
        ((good.url,), 2, "--action"),
    ]:
        got, out, err = await command(*arguments)
        assert (got, out, word in plain(err)) == (code, "", True), (out, err)


async def test_an_answer_that_is_none_of_the_protocol_is_explained() -> None:
    for text in ("<html>", "[]", '{"changes": 1}', '{"changes": [{}]}', '{"changes": [1]}', "{}"):

        async def anything(_: web.Request, text: str = text) -> web.Response:
            return web.Response(text=text)

        async with serving(anything) as url:
            code, out, err = await command(url, *COUNTED)
        assert (code, out) == (1, "")
        assert re.fullmatch(r"statestream: expected board/counted to change something, got status 200: .*\n", err), err


async def test_a_login_is_not_in_the_outcomes(good: Server) -> None:
    for more in ((), ("--json",)):
        code, out, err = await command(good.url.replace("//", "//me:secret@"), *COUNTED, "--only", "answers", *more)
        assert (code, "secret" in out + err) == (0, False)
    assert json.loads(out)["url"] == good.url


async def test_text_of_the_server_reaches_stdout_as_escapes(good: Server) -> None:
    def nasty(asked: Asked, answered: Answered) -> None:
        if asked.path == "/state":
            answered.status, answered.body = 500, b"\x1b[2J\npassed  everything"

    async with Wrong(good=good.url, fault=Fault(answer=nasty)) as wrong:
        code, out, _ = await command(wrong.url, *COUNTED, "--only", "etag")
    assert code == 1
    assert "got status 500: \\x1b[2J\\npassed  everything" in out


def conformance_of(url: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-W", "error", "-m", "statestream", "conformance", url, *COUNTED, *arguments)


async def test_what_is_cut_off_is_no_verdict(good: Server, tmp_path: Path) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    script = f"set -o pipefail; {shlex.join(conformance_of(good.url, '--only', 'answers'))} | true"
    closed = await asyncio.create_subprocess_exec("bash", "-c", script, stderr=subprocess.PIPE, cwd=ROOT)
    assert (await closed.communicate(), closed.returncode) == ((None, b""), 3)
    with (tmp_path / "out").open("w") as out:
        process = await asyncio.create_subprocess_exec(
            *conformance_of(good.url, "--only", "answers"), stdout=out, stderr=subprocess.PIPE, preexec_fn=full
        )
    _, err = await process.communicate()
    assert (process.returncode, err) == (3, b"statestream: cannot write: [Errno 27] File too large\n")


async def test_a_stdout_that_is_closed_is_no_verdict(good: Server) -> None:
    shut = ("sh", "-c", 'exec "$@" >&-', "sh", *conformance_of(good.url, "--only", "answers"))
    process = await asyncio.create_subprocess_exec(*shut, stderr=subprocess.PIPE, cwd=ROOT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (3, b"statestream: stdout is closed; this command writes its result to it\n")


async def test_ctrl_c_is_no_verdict(good: Server) -> None:
    def frame(asked: Asked, number: int, frame: bytes) -> bytes | None:
        """A minute between heartbeats that never come."""
        return None if b"event: heartbeat" in frame else re.sub(rb'"heartbeat":\d+', b'"heartbeat":60000', frame)

    arguments = ("--only", "first-frame", "--only", "heartbeat")
    async with Wrong(good=good.url, fault=Fault(frame=frame)) as wrong:
        process = await asyncio.create_subprocess_exec(
            *conformance_of(wrong.url, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout
        await process.stdout.readuntil(b"passed  first-frame")  # the next one waits
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (3, b"")


async def test_a_terminal_shows_which_check_is_under_way(good: Server) -> None:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *conformance_of(good.url, "--only", "first-frame", "--only", "heartbeat"),
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "60"},
    )
    os.close(slave)
    out, _ = await process.communicate()
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert process.returncode == 0
    assert "first-frame: The first frame" in shown
    assert "heartbeat: No silence is" in shown
    assert "passed" not in shown
    assert out.decode().count("passed  ") == 2


def test_each_check_names_a_section_of_the_protocols_page() -> None:
    page = (ROOT / "docs/protocol.md").read_text()
    headings = {title.replace("`", "") for title in re.findall(r"^## \d+\. (.*)", page, re.MULTILINE)}
    for check in CHECKS:
        assert check.section.partition(":")[0] in headings, check.section
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_the_page_about_it_names_every_check() -> None:
    page = (ROOT / "docs/conformance.md").read_text()
    assert [check.name for check in CHECKS if f"`{check.name}`" not in page] == []
    assert f"{len(CHECKS)} checks" in page
    assert f"{len(Transcript.all())} files" in page
