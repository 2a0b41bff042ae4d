"""Writing on the chat page: nothing that somebody has typed is lost, and what goes wrong stands beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Server
from tests.support.browser import RIGHT, is_of_the_cut
from tests.support.chat_page import LAST, ChatPage, talkative
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
HELD = """fetch = ((real) => async (url, init) => {
  if (init?.method === 'POST' && String(url).includes('chat')) await new Promise((go) => (globalThis.letGo = go));
  return real(url, init);
})(fetch)"""
EARLY = """globalThis.early = open(location.href);
const type = () => {
  const field = early.document.querySelector('#message'); // it is there before the modules of the page are
  if (field === null) return setTimeout(type);
  field.value = 'early';
};
type();"""
UNAWARE = """Object.defineProperty(chat.talk, 'view', {
  value: { ...chat.talk.view, status: 'ready' }, configurable: true,
})"""
DROP = """for (const kind of ['dragenter', 'drop'])
  document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with talkative(tmp_path_factory.mktemp("talkative")) as running:
        yield running


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


def test_a_new_chat_is_found_after_a_reload_before_it_was_drawn(page: ChatPage) -> None:
    page.look("void (requestAnimationFrame = () => 0)")  # a machine that is too busy to draw
    page.do("say", field="#message", text="echo Once")
    page.wait("document.querySelector('#message').value === ''")
    page.do("reload")
    page.live()
    page.wait("document.querySelectorAll('#messages > .assistant').length === 1")
    assert page.texts("#messages > .user .content") == ["echo Once"]


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


def test_a_reply_that_was_stopped_continues(page: ChatPage) -> None:
    page.send("wait")
    page.growing(1)
    page.click(STOP)
    page.wait_for(".outcome", "stopped")
    page.click(".outcome button:first-of-type")
    page.wait_for("#messages > .assistant .flipper", "2 / 2")
    assert page.reply().startswith("Waitingexactly where you stopped.")  # the model repeats what it is asked


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


# several windows, slow answers, and what is typed meanwhile


def test_two_windows_with_the_same_draft_send_two_messages(page: ChatPage, browser: Node) -> None:
    page.ask("echo One")
    page.type("echo Of the first")
    other = ChatPage(browser, RIGHT, page.url, beside=page)
    other.wait("document.querySelector('#message').value === 'echo Of the first'")
    other.type("echo Of the second")
    page.do("press", target="#message", key="Enter")
    page.wait("document.querySelectorAll('#messages > .assistant').length === 2")
    page.reply()
    assert other.field == "echo Of the second"
    assert "Of the second" in other.ask("echo Of the second")
    assert page.field == ""
    assert other.texts("#messages > .user .content") == ["echo One", "echo Of the first", "echo Of the second"]
    assert other.look("document.querySelector('.flipper')") is None, "none is another version of another one"
    assert other.close() == []


def test_a_copy_of_a_window_sends_messages_of_its_own(page: ChatPage) -> None:
    """It begins with the draft of the window, also with what only that window keeps."""
    page.ask("echo One")
    page.type("echo D")
    page.look("void (globalThis.copy = open(location.href))")
    page.wait("copy.document.querySelector('#message')?.value === 'echo D' && copy.chat?.talk?.exists")
    page.look(f"void ({HELD})")
    page.do("say", field="#message", text="echo Mine")
    page.wait("globalThis.letGo !== undefined")
    page.look("void (copy.document.querySelector('#message').value = 'echo Copy')")
    page.look("void copy.document.querySelector('#message').dispatchEvent(new Event('input'))")
    page.look("void copy.document.querySelector('#composer').requestSubmit()")
    page.wait("document.querySelectorAll('#messages > .assistant').length === 2")
    assert page.reply() == "Copy"
    page.look("void letGo()")
    page.wait("document.querySelectorAll('#messages > .assistant').length === 3")
    assert page.reply() == "Mine"
    assert page.texts("#messages > .user .content") == ["echo One", "echo Copy", "echo Mine"]
    page.look("void copy.close()")
    page.do("reload")


def test_what_is_typed_before_the_chat_is_open_is_kept(page: ChatPage) -> None:
    page.ask("echo One")
    page.type("Before")
    page.look(f"{{ {EARLY} }}")
    page.wait("early.chat?.talk")
    assert page.look("early.document.querySelector('#message').value") == "Before\nearly"
    page.look("void early.close()")


def test_what_is_typed_while_a_message_is_sent_is_the_next_one(page: ChatPage) -> None:
    page.look(f"void ({HELD})")
    page.do("say", field="#message", text="echo First")
    page.wait("globalThis.letGo !== undefined")
    page.type("echo First and more")
    page.look("void letGo()")
    page.wait("document.querySelector('#message').value === 'and more'")
    first = page.chat
    page.reply()
    page.do("reload")
    page.live()
    assert page.field == "and more"
    page.click(".new")
    assert page.field == ""
    assert page.chat != first
    page.do("reload")


def test_nothing_can_be_typed_into_a_change_while_it_is_sent(page: ChatPage) -> None:
    page.ask("echo One")
    page.click(".user [title='Change this message']")
    page.do("fill", target=".editor textarea", text="echo Two")
    page.look(f"void ({HELD})")
    page.click(".editor button.main")
    page.wait("globalThis.letGo !== undefined")
    assert page.look("document.querySelector('.editor textarea').readOnly")
    page.look("void letGo()")
    page.is_gone(".editor")
    page.wait("document.querySelector('.user .flipper')?.textContent === '2 / 2'")
    page.wait("document.activeElement.closest('#composer') || document.activeElement.dataset.control === 'edit'")
    page.do("reload")


def test_a_message_that_waits_is_sent_when_its_chat_is_opened_again(page: ChatPage) -> None:
    page.ask("echo One")
    first = page.chat
    page.do("unplug", offline=True)
    page.do("say", field="#message", text="echo Two")
    page.wait_for(NOTE, "You are offline")
    page.do("press", key="Control+Shift+O")
    page.wait_for("#welcome")
    page.do("unplug", offline=False)
    page.live()
    page.click(f"#chats a[href='#{first}']")
    page.wait("document.querySelectorAll('#messages > .assistant').length === 2")
    page.wait("document.querySelector('#message').value === ''")
    assert page.texts("#messages > .user .content") == ["echo One", "echo Two"]


def test_escape_stops_a_reply_only_for_those_who_are_at_it(page: ChatPage) -> None:
    page.send("wait")
    page.growing(1)
    page.do("press", target="#search", key="Escape")
    page.look("""void document.querySelector('#message').dispatchEvent(
      new KeyboardEvent('keydown', { key: 'Escape', isComposing: true, bubbles: true }))""")
    page.look("fetch('./').then(() => true)")
    assert page.look(f"{LAST}.classList.contains('streaming')")
    page.do("press", target="#message", key="Escape")
    page.wait_for(".outcome", "stopped")


def test_a_file_that_is_still_read_belongs_to_the_message(page: ChatPage) -> None:
    page.look("""void (FileReader.prototype.readAsDataURL = ((real) => function (blob) {
      globalThis.letRead = () => real.call(this, blob);
    })(FileReader.prototype.readAsDataURL))""")
    page.type("echo With it")
    event = "new ClipboardEvent('paste', { clipboardData: files, bubbles: true, cancelable: true })"
    page.look(f"{{ {FILES} document.querySelector('#message').dispatchEvent({event}); }}")
    page.wait_for(NOTE, "Reading")
    page.do("press", target="#message", key="Enter")
    page.look("void letRead()")
    page.wait("document.querySelector('#messages .attachment img')?.naturalWidth === 1")
    assert page.texts("#messages > .user .content") == ["echo With it"]
    page.is_gone(NOTE)
    page.do("reload")


def test_a_text_that_is_too_long_or_has_no_room_stays_and_the_note_says_so(page: ChatPage) -> None:
    page.type("x" * 100_001)
    page.wait_for(NOTE, "at most 100,000 characters. This one has 100,001")
    page.do("press", target="#message", key="Enter")
    assert len(page.field) == 100_001
    page.type("")
    page.is_gone(NOTE)
    page.look("void (Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError') })")
    page.type("No room")
    page.wait_for(NOTE, "no room to store")
    page.do("reload")


def test_the_control_that_was_used_has_the_focus_in_the_other_version(page: ChatPage) -> None:
    page.ask("echo One")
    page.look("document.querySelector('.last [data-control=again]').focus()")
    page.do("press", key="Enter")
    page.wait("document.querySelector('.last .flipper')?.textContent === '2 / 2'")
    assert page.look("document.activeElement !== document.body")
    page.look("document.querySelector('.last [data-control=back]').focus()")
    page.do("press", key="Enter")
    page.wait("document.querySelector('.last .flipper')?.textContent === '1 / 2'")
    assert page.look("document.activeElement.dataset.control") == "next"
    assert page.problems() == []


def test_a_suggestion_can_be_undone(page: ChatPage) -> None:
    page.type("mine")
    page.click("[data-suggest]")
    assert page.field not in ("", "mine")
    page.do("press", key="Control+z")
    assert page.field == "mine"
