"""Writing on the chat page: nothing that somebody has typed is lost, and what goes wrong stands beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, Server
from tests.support.browser import RIGHT, is_of_the_cut
from tests.support.chat_page import LAST, TALKATIVE, ChatPage
from tests.support.node import Node

NOTE = "#composer .note"
STOP = "#composer [data-part=stop]"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FILES = f"""
const bytes = Uint8Array.from(atob("{PIXEL}"), (c) => c.charCodeAt(0));
const files = new DataTransfer();
files.items.add(new File([bytes], "dot.png", {{ type: "image/png" }}));
"""

NOISE = """
const canvas = new OffscreenCanvas(900, 900), pen = canvas.getContext('2d'), noise = new ImageData(900, 900);
noise.data.forEach((_, at) => (noise.data[at] = at % 4 === 3 ? 255 : Math.random() * 256));
pen.putImageData(noise, 0, 0);
const files = new DataTransfer();
files.items.add(new File([await canvas.convertToBlob()], 'noise.png', { type: 'image/png' }));
document.querySelector('#message').dispatchEvent(new ClipboardEvent('paste', { clipboardData: files, bubbles: true }));
"""

LOST = """fetch = ((real) => async (url, init) => {
  const answer = await real(url, init);
  if (init?.method === 'POST') throw new TypeError('lost');
  return answer;
})(fetch)"""
UNAWARE = """Object.defineProperty(chat.talk, 'view', {
  value: { ...chat.talk.view, status: 'ready' }, configurable: true,
})"""
DROP = """for (const kind of ['dragenter', 'drop'])
  document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    journal = tmp_path_factory.mktemp("talkative") / "chat.db"
    with Server("serve", TALKATIVE, env={"JOURNAL": f"sqlite:///{journal}", "PYTHONPATH": str(ROOT)}) as running:
        yield running


@pytest.fixture(scope="module")
def window(browser: Node, server: Server) -> Iterator[ChatPage]:
    opened = ChatPage(browser, "window", server.url)
    yield opened
    opened.close()


@pytest.fixture
def page(window: ChatPage) -> ChatPage:
    """A new chat, in the window of all tests."""
    return window.afresh()


def test_a_draft_survives_a_reload_and_each_chat_has_its_own(page: ChatPage) -> None:
    page.ask("echo One")
    first = page.chat
    page.type("half a thought")
    page.click(".new")
    assert page.field == ""
    page.type("another one")
    page.do("reload")
    page.live()
    assert page.field == "another one"
    page.click(f"#chats a[href='#{first}']")
    page.wait(f"chat.talk.id === {json.dumps(first)}")
    assert page.field == "half a thought"
    page.type("")
    assert page.problems() == []


def test_without_a_server_the_message_stays_and_is_sent_once_when_it_is_back(page: ChatPage, server: Server) -> None:
    page.ask("echo One")
    server.kill()
    page.wait_for("#lost")
    page.do("say", field="#message", text="echo Two")
    page.wait_for(NOTE, "kept here")
    assert page.field == "echo Two"
    assert page.look(f"document.querySelector('#composer').contains(document.querySelector('{NOTE}'))")
    server.start()
    page.wait("document.querySelectorAll('#messages > .user').length === 2")
    page.wait("document.querySelector('#message').value === ''")
    page.is_gone(NOTE)
    page.is_gone("#lost")
    page.wait("document.querySelectorAll('#messages > .assistant').length === 2")
    assert page.reply() == "Two"
    assert [problem for problem in page.problems() if not is_of_the_cut(problem)] == []


def test_a_message_whose_answer_was_lost_is_recognized_after_a_reload(page: ChatPage) -> None:
    """In a new chat, too, whose first message creates it."""
    page.look(f"void ({LOST})")
    page.do("say", field="#message", text="echo Once")
    page.wait("document.querySelector('#message').value === ''")  # the chat has it
    page.do("reload")
    page.live()
    assert page.field == ""
    assert page.texts("#messages > .user .content") == ["echo Once"]
    assert page.reply() == "Once"


def test_a_message_can_be_taken_back_while_it_waits(page: ChatPage, server: Server) -> None:
    page.ask("echo One")
    page.do("unplug", offline=True)
    page.do("say", field="#message", text="echo Never")
    page.wait_for(NOTE, "You are offline")
    page.click(f"{NOTE} button")
    page.is_gone(NOTE)
    page.do("unplug", offline=False)
    page.live()
    page.type("echo Two")
    assert "Two" in page.ask("echo Two")
    assert page.texts("#messages > .user .content") == ["echo One", "echo Two"]


def test_a_message_during_a_reply_stays_in_its_field_until_the_reply_has_ended(page: ChatPage, browser: Node) -> None:
    page.send("wait")
    page.growing(1)
    page.do("say", field="#message", text="echo Later")
    page.wait_for(NOTE, "in progress")
    assert page.field == "echo Later"
    page.do("press", key="Escape")  # stops the reply
    page.wait_for(".outcome", "stopped")
    page.is_gone(NOTE)
    assert page.field == "echo Later"
    page.click("#composer [data-part=send]")
    page.wait("document.querySelectorAll('#messages > .assistant').length === 2")
    assert page.reply() == "Later"
    assert page.problems() == []


def test_what_the_server_refuses_stands_beside_the_field_of_who_asked(
    page: ChatPage, browser: Node, server: Server
) -> None:
    page.ask("echo One")
    other = ChatPage(browser, RIGHT, page.url)
    other.wait(f"{LAST} !== null")
    other.look(f"void {UNAWARE}")
    page.send("wait")
    page.growing(1)
    other.do("say", field="#message", text="echo At the same time")  # it does not know of the reply yet
    other.wait_for(NOTE, "in progress")
    assert other.field == "echo At the same time"
    assert page.texts(NOTE) == []
    other.look("void (delete chat.talk.view, dispatchEvent(new Event('online')))")
    other.wait_for(STOP)
    assert other.texts(NOTE) != []
    page.click(STOP)
    other.is_gone(NOTE)
    other.close()


@pytest.mark.parametrize("way", ["picked", "pasted", "dropped"])
def test_a_file_is_attached_and_sent(page: ChatPage, tmp_path: Path, way: str) -> None:
    if way == "picked":
        (tmp_path / "notes.py").write_text("print('hello')\n")
        page.do("upload", target="#composer [data-part=picker]", path=str(tmp_path / "notes.py"))
    elif way == "pasted":
        event = "new ClipboardEvent('paste', { clipboardData: files, bubbles: true, cancelable: true })"
        page.look(f"{{ {FILES} document.querySelector('#message').dispatchEvent({event}); }}")
    else:
        page.look(f"{{ {FILES} {DROP} }}")
        page.wait("!document.body.classList.contains('dropping')")
    page.wait_for("#composer .chip")
    page.do("reload")  # it is a part of the draft
    page.live()
    page.wait_for("#composer .chip")
    page.send("echo Seen")
    page.is_gone("#composer .chip")
    if way == "picked":
        assert page.look("document.querySelector('#messages .chip').download") == "notes.py"
    else:
        page.wait("document.querySelector('#messages .attachment img')?.naturalWidth === 1")
    assert page.problems() == []


def test_files_that_cannot_be_sent_are_refused_with_the_reason(page: ChatPage, tmp_path: Path) -> None:
    for name, content in (("big.pdf", b"x" * 900_000), ("empty.txt", b"")):
        (tmp_path / name).write_bytes(content)
        page.do("upload", target="#composer [data-part=picker]", path=str(tmp_path / name))
        page.wait_for(NOTE, "too large" if content else "is empty")
        page.wait_for(NOTE, name)
    page.type("still here")
    page.is_gone(NOTE)
    page.type("")
    page.look(f"(async () => {{ {NOISE} }})()")
    page.wait_for("#composer .chip", "noise.jpg")
    page.wait_for(NOTE, "was made smaller")
    page.click("#composer .chip button")
    page.is_gone("#composer .chip")
    assert page.problems() == []


def test_a_changed_message_begins_a_branch_and_its_text_is_kept_while_it_is_written(page: ChatPage) -> None:
    page.ask("echo One")
    page.click(".user [title='Change this message']")
    page.do("fill", target=".editor textarea", text="echo Two")
    page.do("reload")
    page.live()
    page.wait("document.querySelector('.editor textarea')?.value === 'echo Two'")
    page.click(".editor button.main")
    page.wait("document.querySelector('.user .flipper')?.textContent === '2 / 2'")
    page.wait(f"{LAST}?.querySelector('.content').textContent === 'Two'")
    page.is_gone(".editor")
    page.reply()
    page.click("[data-flip=back]")
    page.wait("document.querySelector('.user .flipper')?.textContent === '1 / 2'")
    assert page.reply() == "One"
    assert page.problems() == []
