"""`watch`, `dispatch`, `state`, `history`: the commands against real servers, good ones and others."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from typer.main import get_group
from typer.testing import CliRunner

from statestream.tools import cli
from tests.support import ROOT, Server, get_state, serving
from tests.support.nursery import finished
from tests.support.ran import Ran
from tests.support.running import Running
from tests.support.terminal import Terminal

Http = aiohttp.ClientSession
COMMAND = (sys.executable, "-W", "error", "-m", "statestream")
NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2028\x7f"
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ufffd]")
TREE = get_group(cli.app)
ASKING = [("watch",), ("state",), ("history",), ("dispatch", "board/counted")]
CHECKING = ("conformance", "--action", "board/counted")


async def started(*arguments: str) -> Running:
    return await Running.started(*arguments, COLUMNS="200")


async def ended(process: Running | asyncio.subprocess.Process) -> Ran:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return checked(Ran(process.returncode or 0, out.decode(), err.decode()))


def checked(ran: Ran) -> Ran:
    assert "Traceback" not in ran.err, ran
    assert "Exception ignored" not in ran.err, ran
    return ran


async def run(*arguments: str, stdin: str = "") -> Ran:
    return checked(await asyncio.to_thread(finished, *arguments, stdin=stdin, COLUMNS="200"))


async def ok(*arguments: str, **more: Any) -> Ran:
    ran = await run(*arguments, **more)
    assert (ran.code, ran.err) == (0, ""), ran
    return ran


async def refused(*arguments: str, code: int = 1, **more: Any) -> str:
    """What it says when it does not work: one sentence, or typer's words about a wrong call. Nothing on stdout."""
    ran = await run(*arguments, **more)
    assert (ran.code, ran.out) == (code, ""), ran
    if code == 1:
        assert re.fullmatch(r"statestream: .+\n", ran.err), ran
    return " ".join(re.sub("[│╭╮╰╯─]", " ", ran.err).split())


async def line(process: Running) -> str:
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode()


# dispatch


async def test_an_action_is_dispatched(server: Server, http: Http) -> None:
    ran = await ok("dispatch", server.url, "board/counted", '{"by": 3}', "--id", "one")
    state = await get_state(http, server.url, "slices=board,counter")
    assert state["slices"]["board"]["count"] == 3
    assert ran.out.splitlines() == [
        "id        one",
        f"position  {state['position']}",
        f"changed   board (version {state['versions']['board']}), counter (version {state['versions']['counter']})",
    ]


async def test_the_same_id_takes_effect_once(server: Server, http: Http) -> None:
    first, again = [(await ok("dispatch", server.url, "board/counted", "--id", "x", "--json")).json for _ in range(2)]
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert first | {"duplicate": True} == again
    assert (await get_state(http, server.url))["slices"]["board"]["count"] == 1
    assert "repeat" in (await ok("dispatch", server.url, "board/counted", "--id", "x")).out


async def test_a_dispatch_has_an_id_of_its_own(server: Server, http: Http) -> None:
    first, again = [(await ok("dispatch", server.url, "board/counted", "--json")).json for _ in range(2)]
    assert first["id"] != again["id"]
    assert {change["slice"] for change in first["changes"]} == {"board", "counter"}
    assert (await get_state(http, server.url))["slices"]["board"]["count"] == 2


async def test_a_payload_is_read_from_stdin(server: Server, http: Http) -> None:
    await ok("dispatch", server.url, "room/joined", "-", "--key", "%C5%81", stdin='{"name": "Łukasz"}')
    assert (await get_state(http, server.url))["slices"]["room/%C5%81"] == {"members": ["Łukasz"]}


async def test_what_the_server_refuses_is_one_sentence(server: Server, http: Http) -> None:
    sentence = await refused("dispatch", server.url, "board/refused", '{"why": "full"}')
    assert sentence == "statestream: The board says no."
    assert "board has no action board/nothing; the actions are" in await refused(
        "dispatch", server.url, "board/nothing"
    )
    assert "at /by" in await refused("dispatch", server.url, "board/counted", '{"by": "x"}')
    version = (await get_state(http, server.url))["versions"]["board"]
    assert "is not at version" in await refused(
        "dispatch", server.url, "board/counted", "--expect", f"board={version + 1}"
    )
    await ok("dispatch", server.url, "board/counted", "--expect", f"board={version}", "--expect", "room/1=0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (['{"by": }'], "at line 1 column 8"),
        (['{"a": {"__proto__": 1}}'], "at /a"),
        (["[]"], "expected a JSON object"),
        (["--expect", "board"], "SLICE=VERSION"),
        (["--expect", "Board=1"], "slice name"),
        (["--expect", "board=²"], "SLICE=VERSION"),
        (["--key", "Ł"], "percent-encoded"),
        (["--id", "a b"], "expected an id"),
        (["--header", "nonsense"], "expected a header"),
    ],
)
async def test_a_wrong_call_says_where(arguments: list[str], said: str) -> None:
    assert said in await refused("dispatch", "http://127.0.0.1:1", "board/counted", *arguments, code=2)


async def test_a_server_that_never_answers_leaves_an_id_to_repeat() -> None:
    async def unavailable(_: web.Request) -> web.Response:
        return web.json_response({"code": "unavailable", "detail": "the journal is down"}, status=503)

    async with serving(unavailable) as url:
        ran = await run("dispatch", url, "board/counted", "--id", "mine")
    assert (ran.code, ran.out) == (1, "")
    notice, end = ran.err.splitlines()
    assert notice == "statestream: no answer yet, retrying; the outcome is unknown: repeat it with --id mine"
    assert "did not answer" in end
    assert end.endswith("unknown: repeat it with --id mine")


async def test_a_command_goes_where_it_is_sent_but_not_with_its_headers(server: Server) -> None:
    async def elsewhere(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"{server.url}{request.path_qs}"})

    async with serving(elsewhere) as url:
        ran = await run("dispatch", url, "board/counted")
        assert (ran.code, ran.err) == (0, "")
        ran = await run("state", url, "--slices", "counter", "--json")
        assert (ran.code, ran.json["slices"]) == (0, {"counter": 1})
        ran = await run("state", url, "-H", "Authorization: Bearer s3cret")
    assert (ran.code, ran.out) == (1, "")
    assert f"redirects with status 307: {server.url}/state, which is not followed" in ran.err
    assert "s3cret" not in ran.err


async def test_ctrl_c_leaves_an_id_to_repeat_too() -> None:
    asked = asyncio.Event()

    async def hanging(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(hanging) as url:
        process = await started("dispatch", url, "board/counted", "--id", "mine")
        await asyncio.wait_for(asked.wait(), 60)
        process.send_signal(signal.SIGINT)
        ran = await ended(process)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "statestream: interrupted; the outcome is unknown: repeat it with --id mine\n"


@pytest.mark.parametrize("command", ASKING)
async def test_a_closed_stdout_is_said(server: Server, command: tuple[str, ...]) -> None:
    shut = ("sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, command[0], server.url, *command[1:])
    process = await asyncio.create_subprocess_exec(*shut, stderr=subprocess.PIPE, cwd=ROOT)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert said == b"statestream: stdout is closed; this command writes its result to it\n"


# state


async def test_the_state_is_printed(server: Server, http: Http) -> None:
    await ok("dispatch", server.url, "room/joined", '{"name": "Ada"}', "--key", "1")
    state = await get_state(http, server.url)
    assert (await ok("state", server.url, "--slices", "*", "--json")).json == state
    shown = (await ok("state", server.url, "--slices", "room/*,counter")).out
    assert shown.startswith(f"position {state['position']}\n\n")
    assert f'room/1, version {state["versions"]["room/1"]}\n{{\n  "members": [\n    "Ada"\n  ]\n}}\n' in shown
    assert set((await ok("state", server.url, "--json")).json["slices"]) == {"board", "counter"}


async def test_the_state_of_the_past(server: Server) -> None:
    position = (await ok("dispatch", server.url, "board/counted", "--json")).json["position"]
    await ok("dispatch", server.url, "board/counted")
    then = (await ok("state", server.url, "--at", position, "--json")).json
    assert (then["position"], then["slices"]["board"]["count"]) == (position, 1)
    assert "(position_forked)" in await refused("state", server.url, "--at", "1.nosuch")
    assert "expected a position" in await refused("state", server.url, "--at", "yesterday", code=2)


# history


async def test_the_history_is_a_line_a_change(server: Server) -> None:
    await ok("dispatch", server.url, "board/task_added", '{"id": "1", "title": "Ship it"}')
    await ok("dispatch", server.url, "room/joined", '{"name": "Ada"}', "--key", "1")
    rows = (await ok("history", server.url, "--slices", "*", "--json", "--full")).rows
    assert [row["slice"] for row in rows] == ["board", "counter", "board", "room/1"]
    assert rows[2]["cause"]["payload"] == {"id": "1", "title": "Ship it"}
    shown = (await ok("history", server.url, "--slices", "*")).out.splitlines()
    assert len(shown) == 4
    assert re.fullmatch(
        rf'\d\d:\d\d:\d\d\.\d{{3}}  {rows[3]["position"]}  room/1  room/joined  = {{members: \["Ada"\]}}  \d+ B',
        shown[3],
    )
    assert 'payload {name: "Ada"}' in (await ok("history", server.url, "--slices", "room/*", "--full")).out


async def test_a_part_of_the_history(server: Server) -> None:
    position = (await ok("dispatch", server.url, "board/counted", "--json")).json["position"]
    later = [(await ok("dispatch", server.url, "counter/added", '{"by": 1}', "--json")).json for _ in range(2)]
    after = (await ok("history", server.url, "--after", position, "--slices", "counter", "--json")).rows
    assert [row["position"] for row in after][-2:] == [each["position"] for each in later]
    assert len((await ok("history", server.url, "--limit", "1")).out.splitlines()) == 1
    assert (await ok("history", server.url, "--limit", "0")).out == ""
    await refused("history", server.url, "--limit", "-1", code=2)
    assert "expected a position" in await refused("history", server.url, "--after", "x", code=2)
    assert "(position_forked)" in await refused("history", server.url, "--after", "1.nosuch")


def change(number: int, title: str = "") -> bytes:
    patches = [{"op": "replace", "path": "/title", "value": title}]
    cause = {"type": "board/titled", "id": "x"}
    more = {"position": f"{number}.a", "slice": "board", "version": number, "from": number - 1}
    return (
        json.dumps({"type": "state.update", **more, "patches": patches, "cause": cause, "timestamp": 0}).encode()
        + b"\n"
    )


def endless(lines: AsyncIterator[bytes]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for each in lines:
            await response.write(each)
        return response

    return answer


async def many(count: int, size: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield change(number, "x" * size)


async def then_silence() -> AsyncIterator[bytes]:
    yield change(1)
    await asyncio.Event().wait()


async def test_a_closed_pipe_ends_the_history_quietly() -> None:
    for more in ("", "--json"):
        async with serving(endless(many(10**9, 1_000))) as url:
            command = f"set -o pipefail; {' '.join(COMMAND)} history {url} {more} | head -n 2"
            process = await asyncio.create_subprocess_exec(
                "bash", "-c", command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
            )
            ran = await ended(process)
        assert (ran.code, ran.err, len(ran.out.splitlines())) == (0, "", 2), ran


async def test_a_full_disk_is_said_in_a_sentence(tmp_path: Path) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    async with serving(endless(many(10, 1_000))) as url:
        with (tmp_path / "out").open("w") as out:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, "history", url, stdout=out, stderr=subprocess.PIPE, cwd=ROOT, preexec_fn=full
            )
            _, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err.decode()) == (1, "statestream: cannot write: [Errno 27] File too large\n")


async def test_ctrl_c_ends_the_history_quietly() -> None:
    async with serving(endless(then_silence())) as url:
        process = await started("history", url)
        assert "board/titled" in await line(process)
        process.send_signal(signal.SIGINT)
        ran = await ended(process)
    assert (ran.code, ran.err) == (0, "")


async def test_a_history_is_never_held_as_a_whole() -> None:
    async def peak(count: int) -> int:
        async with serving(endless(many(count, 100_000))) as url:
            script = (
                "import resource, sys; from statestream.__main__ import main\n"
                "try: main()\n"
                "except SystemExit: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
            )
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script, "history", url),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=ROOT,
            )
            _, err = await asyncio.wait_for(process.communicate(), 60)
        return int(err)

    assert await peak(1_000) < await peak(10) + 30_000


async def test_a_history_that_is_cut_off_is_no_success() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(change(1) + change(2)[:20])
        assert request.transport
        request.transport.close()
        return response

    async with serving(cut) as url:
        ran = await run("history", url)
    assert (ran.code, len(ran.out.splitlines())) == (1, 1)
    assert "cut off" in ran.err


# what all of them say


@pytest.mark.parametrize("command", ASKING, ids=lambda c: c[0])
async def test_nobody_there_is_said_at_once(command: tuple[str, ...]) -> None:
    name, *more = command
    sentence = await refused(name, "http://127.0.0.1:1", *more)
    assert "expected a server at http://127.0.0.1:1, found none" in sentence
    assert "no.such.host.invalid" in await refused(name, "http://no.such.host.invalid", *more)
    assert "not known" in await refused(name, "http://no.such.host.invalid", *more)
    assert "connection refused" in sentence
    assert "without a scheme; put http:// or https:// in front" in await refused(name, "board", *more, code=2)
    assert "leave out /stream/state" in await refused(name, "http://x/stream/state", *more, code=2)


@pytest.mark.parametrize("command", ASKING, ids=lambda c: c[0])
async def test_another_server_is_told_from_ours(command: tuple[str, ...]) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text=f"<h1>Hello {NASTY}</h1>", content_type="text/html")

    async def nonsense(request: web.Request) -> web.Response:
        kind = {"/history": "application/x-ndjson", "/stream/state": "text/event-stream"}.get(request.path)
        return web.Response(text='data: 1\n\n{"a": 1}\n', content_type=kind or "application/json")

    async def missing(_: web.Request) -> web.Response:
        return web.Response(status=404, text=f"not {NASTY} found")

    async def moved(_: web.Request) -> web.Response:
        raise web.HTTPFound("http://127.0.0.1:1/login")

    name, *more = command
    for handle in (page, nonsense, missing, moved):
        async with serving(handle) as url:
            sentence = await refused(name, url, *more)
        assert not RAW.search(sentence)
        assert "expected" in sentence or handle in (missing, moved)
        assert ("http://127.0.0.1:1/login" in sentence) == (handle is moved)


@pytest.mark.parametrize("command", ["watch", "state", "history"])
async def test_an_unknown_slice_is_said_in_the_servers_words(server: Server, command: str) -> None:
    sentence = await refused(command, server.url, "--slices", "nope")
    assert "404: in `slices`: there is no slice nope; the slices are board, counter, room/<key>" in sentence
    assert sentence.endswith("(unknown_slice)")


@pytest.mark.parametrize("command", [*ASKING, CHECKING], ids=lambda c: c[0])
async def test_headers_go_with_every_request(command: tuple[str, ...]) -> None:
    seen: list[tuple[str, str]] = []

    async def refusing(request: web.Request) -> web.Response:
        seen.append((request.headers.get("Authorization", ""), request.headers.get("X-Room", "")))
        return web.json_response({"code": "forbidden", "detail": "not for you"}, status=403)

    name, *more = command
    async with serving(refusing) as url:
        sentence = await refused(name, url, *more, "-H", "Authorization: Bearer abc", "--header", "X-Room: 1")
    assert "not for you" in sentence
    assert set(seen) == {("Bearer abc", "1")}


@pytest.mark.parametrize("command", [*ASKING, CHECKING], ids=lambda c: c[0])
async def test_a_login_in_the_url_is_sent_and_never_said(command: tuple[str, ...]) -> None:
    seen: list[str] = []

    async def refusing(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response(status=401, text="who are you?")

    name, *more = command
    async with serving(refusing) as url:
        sentence = await refused(name, url.replace("//", "//me:secret@"), *more)
    assert "who are you?" in sentence
    assert "secret" not in sentence
    assert set(seen) == {"Basic bWU6c2VjcmV0"}
    assert "secret" not in await refused(name, "http://me:secret@", *more, code=2)


@pytest.mark.parametrize(
    "name", ["", *TREE.commands, *(f"journal {name}" for name in TREE.commands["journal"].commands)]
)
def test_help_teaches_in_a_terminal_of_80_columns(name: str) -> None:
    """With examples and exit codes, and no line that is broken where it was not written so."""
    command = TREE
    for word in name.split():
        command = command.commands[word]
    shown = CliRunner().invoke(cli.app, [*name.split(), "--help"], env={"COLUMNS": "80"}).stdout
    _, *more = inspect.cleandoc(command.help or "").split("\n\n")
    written = [line for paragraph in more for line in paragraph.strip("\b\n").splitlines()]
    assert set(written) <= {line.strip() for line in shown.splitlines()}
    assert any(re.match(rf"`?statestream {name or 'demo'}\b", line) for line in written)
    assert any(line.startswith("Exit code 0: ") for line in written)
    assert not re.search(r"Usage:.*[{}]|\[\[", shown)


async def test_text_of_others_reaches_stdout_as_escapes(server: Server, http: Http) -> None:
    payload = json.dumps({"id": NASTY, "title": NASTY}, ensure_ascii=False)
    await ok("dispatch", server.url, "board/task_added", "-", stdin=payload)
    for more in ((), ("--json",)):
        for command in (("state",), ("history", "--full")):
            out = (await ok(command[0], server.url, *command[1:], *more)).out
            assert not RAW.search(out), repr(out)
            assert "u202e" in out
    found = (await ok("state", server.url, "--json")).json["slices"]["board"]["tasks"][0]["title"]
    assert found == NASTY


# watch, where there is no terminal


async def test_watch_prints_a_line_a_change(server: Server) -> None:
    process = await started("watch", server.url)
    assert re.fullmatch(r"-- opened: start at \d+\.\w+\n", await line(process))
    await ok("dispatch", server.url, "board/task_added", json.dumps({"id": "1", "title": NASTY}))
    shown = await line(process)
    assert "board  board/task_added  = {tasks: [{id: " in shown
    assert not RAW.search(shown.rstrip("\n"))
    process.send_signal(signal.SIGINT)
    ran = await ended(process)
    assert (ran.code, ran.err) == (0, "statestream: healthy\nstatestream: failed\n")


async def test_watch_prints_json_and_nothing_else(server: Server) -> None:
    process = await started("watch", server.url, "--json", "--slices", "room/*")
    first = json.loads(await line(process))
    assert (first["type"], first["slices"]) == ("state.initial", {})
    position = (await ok("dispatch", server.url, "room/joined", '{"name": "A"}', "--key", "1", "--json")).json[
        "position"
    ]
    update = json.loads(await line(process))
    assert (update["position"], update["slice"], update["value"]) == (position, "room/1", {"members": ["A"]})
    process.send_signal(signal.SIGTERM)
    ran = await ended(process)
    assert (ran.code, ran.out, ran.err) == (0, "", "")


async def test_a_closed_pipe_ends_watch_quietly(server: Server) -> None:
    process = await started("watch", server.url, "--json")
    await line(process)
    process.close_stdout()
    await ok("dispatch", server.url, "board/counted")
    await ok("dispatch", server.url, "board/counted")
    ran = await ended(process)
    assert (ran.code, ran.err) == (0, "")


# watch, on a terminal


async def test_watch_shows_a_change_and_leaves_the_terminal_as_it_was(server: Server) -> None:
    async with Terminal("watch", server.url, "--slices", "*") as terminal:
        await terminal.shows("● healthy")
        await terminal.shows("counter: 0")
        await ok("dispatch", server.url, "board/counted", '{"by": 42}')
        await terminal.shows("counter: 42")
        await terminal.shows("board/counted")
        await terminal.shows("count: 42")
        assert len(terminal.lines) == terminal.rows
        assert terminal.modes == {"1049": True, "25": False, "7": False, "2026": False}
        terminal.press("keys that nobody reads\x1a\x03")
        assert await terminal.ends() == 0
        assert terminal.is_as_before()
        assert "keys that" not in terminal.text_before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_every_end_gives_the_terminal_back(server: Server, number: int) -> None:
    async with Terminal("watch", server.url) as terminal:
        await terminal.shows("● healthy")
        assert await terminal.ends(number) == 0
        assert terminal.is_as_before()


async def test_watch_follows_the_size_of_the_terminal(server: Server) -> None:
    async with Terminal("watch", server.url, columns=80, rows=24) as terminal:
        for columns, rows in ((80, 24), (40, 10), (200, 50), (9, 3), (1, 1), (120, 30)):
            terminal.resize(columns, rows)
            await terminal.shows(
                lambda lines, columns=columns, rows=rows: (
                    len(lines) == rows and max(map(len, lines)) <= columns and (columns < 80 or "Ctrl-C" in lines[0])
                )
            )
        assert await terminal.ends(signal.SIGINT) == 0


async def test_nothing_of_others_reaches_the_terminal_raw(server: Server) -> None:
    async with Terminal("watch", server.url, "--slices", "*") as terminal:
        await terminal.shows("● healthy")
        for number in range(3):
            await ok("dispatch", server.url, "board/task_added", json.dumps({"id": str(number), "title": NASTY}))
        await ok("dispatch", server.url, "room/joined", json.dumps({"name": NASTY}), "--key", "1")
        await terminal.shows("room/joined")
        await terminal.shows("\\x1b]0;owned")
        assert await terminal.ends(signal.SIGINT) == 0  # the terminal has checked every byte
        assert terminal.is_as_before()


async def test_pictures_do_not_grow_with_the_changes(server: Server, http: Http) -> None:
    async with Terminal("watch", server.url) as terminal:
        await terminal.shows("● healthy")
        for _ in range(300):
            async with http.post(f"{server.url}/dispatch", json={"type": "board/counted", "payload": {}}) as response:
                assert response.status == 200
        await terminal.shows("counter: 300")
        assert terminal.pictures < 150  # it would be 300 and more if each were drawn
        assert await terminal.ends(signal.SIGINT) == 0


async def test_watch_comes_back_to_a_server_that_was_away(tmp_path: Path) -> None:
    with Server.serving(journal=f"sqlite:///{tmp_path / 'journal.db'}") as server:
        async with Terminal("watch", server.url, columns=160) as terminal:
            await terminal.shows("0 reconnects")
            await terminal.shows("opened: start")
            server.kill()
            await terminal.shows("lost, reconnecting")
            server.start()
            await terminal.shows("1 reconnect ")
            await terminal.shows("opened: resumed")
            await ok("dispatch", server.url, "counter/added", '{"by": 7}')
            await terminal.shows("counter: 7")
            assert await terminal.ends(signal.SIGINT) == 0
            assert terminal.is_as_before()


async def test_a_server_that_refuses_for_good_ends_watch() -> None:
    initial = {"type": "state.initial", "reason": "start", "position": "1.a", "slices": {"a": 1}, "versions": {"a": 1}}
    first = (
        b"event: state.initial\nid: 1.a\nretry: 1\ndata: %b\n\n"
        % json.dumps(initial | {"heartbeat": 1_000, "timestamp": 0}).encode()
    )
    asked = 0

    async def ending(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(first)
        if asked > 1:
            await response.write(b'event: stream.end\ndata: {"type":"stream.end","reason":"revoked"}\n\n')
        return response

    async with serving(ending) as url, Terminal("watch", url) as terminal:
        assert await terminal.ends() == 1
        assert terminal.is_as_before()
        assert "for good: revoked" in terminal.text_before
