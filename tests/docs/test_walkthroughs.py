"""Pages that are followed from the first line to the last: what they show is done, in order, as a reader would.

Every line for a shell is run, here or by the test that is named beside it; one that cannot be says why.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.support import Server, eventually
from tests.support.browser import Tab, text_is
from tests.support.node import Node
from tests.support.pages import DOCS, fences_of, files_of, terminals_of, write_files
from tests.support.typed import Desk

RUN = {"../README.md": 3, "tutorial.md": 4, "howto/dashboard.md": 1, "howto/client.md": 1, "howto/chat-page.md": 1}
RUN |= {"recording.md": 1, "watching.md": 4, "agents.md": 1}
"""How many fences of `sh` a page has that are run here."""
ELSEWHERE = {
    "howto/authenticate.md": "tests/docs/test_authenticate.py, with the page's files",
    "howto/ai-sdk.md": "the bundle is made by tests/docs/test_howtos.py, with what npm installed for the tests",
    "howto/chat-kits.md": "tests/docs/test_chat_kits.py bundles with what npm installed for the tests",
    "howto/proxies.md": "tests/server/test_proxies.py asks with curl, through proxies with other ports",
    "howto/origins.md": "tests/docs/test_howtos.py serves both, on free ports",
    "howto/types.md": "tests/tools/test_types.py, with the page's files",
    "howto/deploy.md": "it needs systemd, Docker and a cluster; tests/docs/test_deploy.py checks the files",
    "files.md": "tests/chat/test_uploads.py, with a chat of its own",
    "operations.md": "tests/tools/test_bench.py: here it would take the machine from others for ten seconds",
    "conformance.md": "tests/tools/test_conformance.py: it waits for two heartbeats, of 15 seconds",
    "benchmarks.md": "it measures for half an hour, in a checkout that is made ready for it",
}
SETS_UP = "make run     # sets up and starts the demo: open http://127.0.0.1:8000, end it with Ctrl-C\nmake test"
INSTALLS = "python3 -m venv .venv\n. .venv/bin/activate\npip install .\n"
"""Neither is run: the first is what runs this. `tests/chat/test_chat.py` runs the demo, and
`tests/docs/test_project.py` installs the package."""


def test_every_line_for_a_shell_is_run_or_says_why_not() -> None:
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | {"../README.md"}
    found = {page: len(terminals_of(page)) for page in pages if terminals_of(page)}
    assert {page: count for page, count in found.items() if page not in ELSEWHERE} == RUN
    assert set(ELSEWHERE) <= set(found)


ADD = """statestream dispatch http://127.0.0.1:8000 board/task_added '{"id": "1", "title": "Ship it"}'"""


ANOTHER_EACH_TIME = re.compile(r'(?<=\d\.)[\w-]+|(?<="timestamp":)\d+|(?<="id":")[\w-]{12}(?=")')


def plain(line: str) -> str:
    return ANOTHER_EACH_TIME.sub("…", line)


async def test_the_readme_shows_what_happens(tmp_path: Path) -> None:
    [[made_ready], [installed], [serve, listen, act]] = terminals_of("../README.md")
    assert made_ready.startswith(SETS_UP)
    assert installed.strip() == INSTALLS.strip()
    board, follow, *_ = fences_of("../README.md", "python")
    shown = next(text for text in fences_of("../README.md", "") if text.startswith("event: "))
    desk = Desk(tmp_path)
    desk.put("app.py", board)
    desk.put("follow.py", follow)
    async with desk.types(serve) as server:
        await server.says(f"serving on {desk.url}$")
        async with desk.types(listen) as heard:
            await heard.says("^data: ")
            async with desk.types(act) as done:
                assert json.loads("".join(await done.ends()))["changes"] == [{"slice": "board", "version": 2}]
            await heard.says('"state.update"')
            lines = [plain(line) for line in shown.splitlines()]
            assert [plain(line) for line in heard.lines][: len(lines)] == lines
            async with desk.types("python follow.py") as following:
                await following.says(r"^patches board .*/tasks/1")
                first, second, *_ = following.lines
                assert (first, second) == (
                    "{'tasks': [{'id': '1', 'title': 'Ship it', 'done': False}]}",
                    "initial None ()",
                )
            await heard.says(r'"patches":\[\{"op":"add","path":"/tasks/1","value":\{')
        await server.interrupt()


async def test_a_first_agent_answers(tmp_path: Path) -> None:
    [[ask]] = terminals_of("agents.md")
    desk = Desk(tmp_path)
    desk.put("app.py", fences_of("agents.md", "python")[0])
    async with desk.types("statestream serve app.py:app") as server:
        await server.says(f"serving on {desk.url}$")
        async with desk.types(ask) as asked:
            answer = "".join(await asked.ends())
            assert '"delta":"You said: Hello?"' in answer or '"delta":"Hello?"' in answer, answer
        await server.interrupt()


async def test_the_tutorial_leads_to_a_page(browser: Node, tmp_path: Path) -> None:
    [[serve], [listen], [act], [serve_app]] = terminals_of("tutorial.md")
    steps = "".join(fences_of("tutorial.md", "python"))
    [store] = re.findall(r"`(store = [^`]+)`", (DOCS / "tutorial.md").read_text())
    slices = re.sub(r"^asyncio\.run\(.*\n", "", steps, flags=re.MULTILINE)  # as its step 5 says
    files = files_of("tutorial.md")
    desk = Desk(tmp_path)
    desk.put("app.py", f"{slices}\n{store}\n")
    desk.put("follow.py", files["follow.py"])
    desk.put("index.html", files["index.html"])

    async with desk.types(serve) as server:
        await server.says(f"serving on {desk.url}$")
        async with desk.types(listen) as heard:
            await heard.says('"state.initial"')
            async with desk.types(act) as done:
                assert "board (version" in (await done.ends())[2]
            await heard.says('"slice":"room/log".*"saw Ship it"')
            [*_, last_id] = [line.removeprefix("id: ") for line in heard.lines if line.startswith("id: ")]
        await server.kill()
    async with desk.types("python follow.py") as following:
        async with desk.types(serve) as server:
            await server.says("serving on")
            async with desk.types(f"{listen} -H 'Last-Event-ID: {last_id}'") as heard:
                await heard.says("^event: state.resumed$")
            await following.says("^the state: start .*Ship it")
            await server.interrupt()
        with (tmp_path / "app.py").open("a") as app:
            app.write(files["at the end of app.py"])
        async with desk.types(serve_app) as server:
            await server.says("serving on")
            tab = Tab(browser, "tutorial", desk.url)
            tab.wait(text_is("#tasks", "☐ Ship it"))
            async with desk.types(act.replace('"1"', '"2"').replace("Ship it", "Tell all")) as done:
                await done.ends()
            tab.wait(text_is("#tasks", "☐ Ship it☐ Tell all"))
            await following.says("^board (value|patches) .*board/task_added.*Tell all")
            assert [problem for problem in tab.close() if "favicon" not in problem and "404" not in problem] == []
            await server.interrupt()


async def test_the_dashboard_is_told_what_its_page_tells_it(tmp_path: Path) -> None:
    [[serve, report]] = terminals_of("howto/dashboard.md")
    write_files("howto/dashboard.md", tmp_path)
    desk = Desk(tmp_path)
    async with desk.types(serve) as server:
        await server.says("serving on")
        for duplicate in (False, True):
            async with desk.types(report) as done:
                assert json.loads("".join(await done.ends()))["duplicate"] == duplicate
        await server.interrupt()


async def test_the_clients_worker_is_given_a_task(tmp_path: Path) -> None:
    [[serve, work, act]] = terminals_of("howto/client.md")
    write_files("howto/client.md", tmp_path)
    desk = Desk(tmp_path)
    async with desk.types(serve) as server:
        await server.says("serving on")
        async with desk.types(work, STATESTREAM_URL=desk.url) as worker:
            async with desk.types(act) as done:
                await done.ends()
            await worker.says("^doing Ship it$")
        await server.interrupt()


async def test_the_chat_page_is_served(tmp_path: Path) -> None:
    [[serve]] = terminals_of("howto/chat-page.md")
    write_files("howto/chat-page.md", tmp_path)
    desk = Desk(tmp_path)
    async with desk.types(serve, OPENAI_API_KEY="") as server:
        await server.says("serving on")
        async with desk.types(f"curl {desk.url}") as page:
            assert "<title>Chat</title>" in await page.ends()
        await server.interrupt()


async def test_a_run_is_recorded_and_played(server: Server, tmp_path: Path) -> None:
    [[lines]] = terminals_of("recording.md")
    record, replay, serve = lines.splitlines()
    desk = Desk(tmp_path, server.port)
    async with desk.types(record) as recording:
        await eventually(lambda: recording.errors)
        async with desk.types(ADD) as done:
            await done.ends()
        await eventually(lambda: b"Ship it" in (tmp_path / "run.jsonl").read_bytes())
        await recording.interrupt()
    async with desk.types(replay) as played:
        assert re.search(r"^\+\S+  \S+  board  .*  board/task_added$", "\n".join(await played.ends()), re.MULTILINE)
    desk = Desk(tmp_path)
    async with desk.types(serve) as served:
        await served.says(f"serving on {desk.url}$")
        async with desk.types(f"curl -N {desk.url}/stream/state") as heard:
            await heard.says("^event: state.update$")
        await served.interrupt()


async def test_a_server_is_watched_and_asked(server: Server, tmp_path: Path) -> None:
    [lines], [updates], [count], [who] = terminals_of("watching.md")
    watch, act, *asks = lines.splitlines()
    desk = Desk(tmp_path, server.port)
    unbuffered = updates.replace("jq ", "jq --unbuffered ")  # as it is by itself where its output is a terminal
    async with desk.types(watch) as watching, desk.types(unbuffered) as patches:
        await watching.says("^-- opened: start at ")
        for line in (act, *asks):
            async with desk.types(line) as done:
                assert "board" in "".join(await done.ends())
        await watching.says("board/task_added")
        async with desk.types(count) as counted:
            assert await counted.ends() == ["1"]
        async with desk.types(who) as told:
            assert json.loads((await told.ends())[-1])[1:] == ["board/task_added", {"id": "1", "title": "Ship it"}]
        await patches.says(r"Ship it")
        await watching.interrupt()
