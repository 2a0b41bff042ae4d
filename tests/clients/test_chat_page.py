"""The chat page in real windows: the same chat in several of them, and what happens when the server is away.

`python -m tests.clients.test_chat_page` takes the picture of the README: one chat in two windows, a reply half grown.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, Server
from tests.support.browser import CHROMIUM, LEFT, RIGHT, is_of_the_cut
from tests.support.chat_page import LAST, ChatPage, talkative
from tests.support.chats import INTERRUPTED
from tests.support.node import Node


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that may be stopped and killed: it has its journal in a file."""
    with talkative(tmp_path_factory.mktemp("talkative")) as running:
        yield running


@pytest.fixture(scope="module")
def pair(browser: Node, server: Server) -> Iterator[tuple[ChatPage, ChatPage]]:
    left, right = (ChatPage(browser, name, server.url) for name in ("ana", "ben"))
    yield left, right
    left.close()
    right.close()


@pytest.fixture
def windows(pair: tuple[ChatPage, ChatPage]) -> tuple[ChatPage, ChatPage]:
    """Two people in a new chat, in the windows of all tests."""
    left, right = (window.afresh() for window in pair)
    left.ask("echo Hello")
    right.look(f"location.hash = {json.dumps(left.chat)}")
    right.wait(f"{LAST} !== null")
    return left, right


FRAME_MS = 17
STAMPS = """
const shown = (globalThis.shown = []);
const look = (at) => {
  const text = document.querySelector('#messages > .assistant.last.streaming .content')?.textContent ?? '';
  if (text !== (shown.at(-1)?.text ?? '')) shown.push({ text, at: performance.timeOrigin + at });
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def test_two_tabs_show_the_same_tokens_in_the_same_frames(
    browser: Node, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one shows, the other one shows as well: both draw what has arrived by their next frame."""
    left = ChatPage(browser, LEFT, server.url)
    left.ask("echo Hello")
    right = ChatPage(browser, RIGHT, left.url, beside=left)
    right.wait(f"{LAST} !== null")
    for tab in (left, right):
        tab.look(f"{{ {STAMPS} }}")
    left.ask("count 300")
    texts = [tab.reply() for tab in (left, right)]
    seen = [[frame for frame in tab.look("shown") if frame["text"]] for tab in (left, right)]
    assert texts[0] == texts[1]
    assert left.look("seen.open") + right.look("seen.open") == 1, "they share one connection"
    whole = texts[0]
    for frames in seen:
        assert len(frames) >= 3
        assert all(whole.startswith(frame["text"].rstrip()) for frame in frames)
        assert [len(frame["text"]) for frame in frames] == sorted({len(frame["text"]) for frame in frames})
    stamps = [{frame["text"]: frame["at"] for frame in frames} for frames in seen]
    common = stamps[0].keys() & stamps[1].keys()
    apart = sorted(abs(stamps[0][text] - stamps[1][text]) for text in common)
    same = sum(each < FRAME_MS for each in apart)
    with capsys.disabled():
        print(f"\ntwo tabs: {[len(each) for each in seen]} states, {len(apart)} in both, {same} in the same frame")
    assert same > 0
    left.ends_well()
    right.ends_well()


def test_a_reply_grows_in_two_windows_and_ends_the_same(windows: tuple[ChatPage, ChatPage]) -> None:
    left, right = windows
    for window in windows:
        window.look("void (seen.lengths.length = 0)")
    left.ask("count 300")
    right.wait("document.querySelectorAll('#messages > .assistant').length === 2")
    texts = [window.reply() for window in windows]
    assert texts[0] == texts[1] == "".join(f"{number} " for number in range(1, 301))
    for window in windows:
        lengths = window.look("seen.lengths")
        assert len(lengths) >= 3
        assert lengths == sorted(set(lengths))
        assert window.problems() == []


def test_seven_tabs_share_a_connection_and_none_of_them_blocks_a_message(browser: Node, server: Server) -> None:
    first = ChatPage(browser, "1", server.url)
    first.ask("echo One")
    tabs = [first, *(ChatPage(browser, str(n), server.url, beside=first) for n in range(2, 8))]
    tabs[6].send("echo Seven")
    for tab in tabs:
        tab.wait("document.querySelectorAll('#messages > .user').length === 2")
    tabs[6].click("#board-button")
    tabs[6].do("say", field="#add input", text="Typed in the seventh")
    for tab in tabs:
        tab.wait("chat.client.snapshot.slices.board.tasks.some(({ title }) => title === 'Typed in the seventh')")
        assert tab.look("document.querySelector('#status').textContent") == "Live"
    assert sum(tab.look("seen.open") for tab in tabs) == 1
    for tab in tabs:
        tab.ends_well()


def test_all_go_on_by_themselves_when_the_server_is_killed_in_a_reply(
    windows: tuple[ChatPage, ChatPage], server: Server
) -> None:
    left, right = windows
    left.send("count 5000")
    for window in windows:
        window.growing()
    assert left.problems() == right.problems() == []
    snapshots = [len(window.events("state.initial")) for window in windows]
    server.kill()
    shown = [window.text(f"{LAST}.querySelector('.content')") for window in windows]
    for window in windows:
        window.wait_for("#lost", "The server does not answer")
    server.start()
    kept = [window.reply() for window in windows]
    assert kept[0] == kept[1]
    assert all(kept[0].startswith(text.strip()) for text in shown)
    for window in windows:
        window.is_gone("#lost")
        window.live()
        window.wait_for(".outcome", INTERRUPTED)
    assert [len(window.events("state.initial")) for window in windows] == snapshots, "they continue where they were"
    right.click(".last .retry >> nth=1")  # an interrupted reply offers it, after continuing, which this model cannot
    left.click("#composer [data-part=stop]")
    for window in windows:
        window.wait_for(".outcome", "stopped")
        window.wait("document.querySelector('.last .flipper')?.textContent === '2 / 2'")
        assert [problem for problem in window.problems() if not is_of_the_cut(problem)] == []


def test_an_orderly_restart_and_a_lost_network_go_unnoticed(windows: tuple[ChatPage, ChatPage], server: Server) -> None:
    left, right = windows
    assert server.stop() == ""
    server.start()
    for window in windows:
        window.wait("seen.events.some((event) => event.name === 'state.resumed')")
        window.live()
    right.do("unplug", offline=True)
    right.wait_for("#lost", "You are offline")
    right.do("say", field="#message", text="echo From afar")
    right.wait_for("#composer .note", "kept here")
    assert right.field == "echo From afar"
    left.ask("echo Meanwhile")
    right.do("unplug", offline=False)
    right.wait("document.querySelectorAll('#messages > .user').length === 3")
    left.wait("document.querySelectorAll('#messages > .user').length === 3")
    right.wait("document.querySelector('#message').value === ''")
    right.is_gone("#composer .note")
    right.is_gone("#lost")
    assert right.reply() == left.reply() == "From afar"


def test_a_visit_opens_the_last_chat_and_creates_none(browser: Node, server: Server) -> None:
    page = ChatPage(browser, LEFT, server.url)
    assert page.url.endswith("#new")
    page.do("visit", url=server.url)
    page.live()
    assert page.look("chat.client.state") == {"board": page.look("chat.client.state.board")}, "there is no list yet"
    page.ask("echo First")
    first = page.chat
    assert page.url.endswith(f"#{first}")
    page.do("visit", url=server.url)
    page.live()
    assert page.chat == first
    page.wait_for("#messages", "First")
    page.click(".new")
    page.wait_for("#welcome")
    page.do("reload")
    page.live()
    page.wait_for("#welcome")
    page.ask("echo Second")
    page.wait("document.querySelectorAll('#chats a').length === 2")
    page.do("back")
    page.wait(f"chat.talk.id === {json.dumps(first)}")
    page.ends_well()


def test_a_window_that_finds_a_gap_takes_the_state_anew(windows: tuple[ChatPage, ChatPage]) -> None:
    left, right = windows
    for window in windows:
        window.click("#board-button")
    for title in ("One", "Two"):  # from now on a patch is smaller than the value
        left.do("say", field="#add input", text=title)
        right.wait_for("#tasks", title)
    right.look("void (chat.client.versions.board -= 1)")
    left.do("say", field="#add input", text="Three")
    right.wait_for("#tasks", "Three")
    left.do("say", field="#add input", text="Four")
    right.wait_for("#tasks", "Four")
    assert right.problems() == []


def test_a_listener_that_throws_loses_nothing_of_the_stream(windows: tuple[ChatPage, ChatPage]) -> None:
    left, _ = windows
    left.look("void chat.client.select((state) => state, () => { throw new Error('the page is broken') })")
    left.ask("echo Still here")
    left.click("#board-button")
    left.do("say", field="#add input", text="And here")
    left.wait_for("#tasks", "And here")
    assert {problem.partition("Error: ")[2] for problem in left.problems()} == {"the page is broken"}


# the picture


FRAME = """<body style="margin:0;padding:18px;display:flex;gap:18px;background:#cbd5e1">
<style>div{border-radius:10px;overflow:hidden;box-shadow:0 4px 14px #0f172a40}img{display:block}
p{margin:0;height:28px;padding-left:12px;background:#334155;color:#94a3b8;font:22px/26px sans-serif;letter-spacing:4px}
</style>"""


def take_picture(path: Path) -> None:
    """Two people in one chat. The server is halted in its reply, so that both windows stand still."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Server("demo", "--journal", f"sqlite:///{folder}/demo.db") as demo,
        Node("browser.mjs", CHROMIUM) as browser,
    ):
        left = ChatPage(browser, LEFT, demo.url, who="ana", width=900, height=760)
        for title in ("Ship the release", "Book the train", "Call Ada"):
            task = json.dumps({"id": title, "title": title})
            left.look(f"void chat.client.dispatch('board/task_added', {task})")
        left.ask("Who else can see this?")
        left.do("press", key="Control+Shift+O")
        left.ask("Add “Water the plants” to the board")
        left.do("press", key="Control+Shift+O")
        left.ask("Show me code: a slice and an action in Python")
        right = ChatPage(browser, RIGHT, left.url, who="ben", width=560, height=760, theme="dark")
        right.send("Think first: what if I close this window?")
        left.wait(f"{LAST}.querySelector('.content > .markdown')?.textContent.length > 90")
        os.kill(demo.pid, signal.SIGSTOP)
        text = left.text(f"{LAST}.querySelector('.content')")
        right.wait(f"{LAST}.querySelector('.content').textContent === {json.dumps(text)}")
        shots = [window.do("picture") for window in (left, right)]
        os.kill(demo.pid, signal.SIGCONT)
        images = "".join(f'<div><p>•••</p><img src="data:image/png;base64,{shot}"></div>' for shot in shots)
        source = "data:text/html;charset=utf-8;base64," + base64.b64encode((FRAME + images).encode()).decode()
        browser.ask("open", window="both", url=source, width=1514, height=824)
        browser.ask("picture", window="both", path=str(path))


if __name__ == "__main__":
    take_picture(ROOT / "docs/images/demo.png")
