"""Several people on the chat page, the list of their chats with its search, and the board beside the chat."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

import statestream
from tests.support import Server
from tests.support.browser import LEFT, RIGHT, is_of_the_cut
from tests.support.chat_page import LAST, ChatPage, talkative
from tests.support.node import Node

SLOW_JOIN = """fetch = ((real) => async (url, init) => {
  const joins = String(url).includes('/join/');
  if (joins) await new Promise((go) => (globalThis.letJoin = go));
  const answer = await real(url, init);
  if (joins) globalThis.joined = true;
  return answer;
})(fetch)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with talkative(tmp_path_factory.mktemp("talkative")) as running:
        yield running


def add(page: ChatPage, title: str) -> None:
    page.do("say", field="#add input", text=title)
    page.wait_for("#tasks li", title)


def box(title: str) -> str:
    return f"#tasks li:has([title={json.dumps(f'Remove {title}')}]) input"


# people


def test_who_has_the_link_takes_part_is_seen_and_can_be_removed(browser: Node, server: Server) -> None:
    ana = ChatPage(browser, LEFT, server.url, who="Ana Ramírez")
    ana.ask("echo Hello")
    ben = ChatPage(browser, RIGHT, ana.url, who="ben")
    ben.wait_for("#messages .who", "Ana Ramírez")
    ana.wait("document.querySelector('#people').ariaLabel.includes('ben')")
    ben.wait("chat.talk.present.some(({ name }) => name === 'ben')")
    ben.do("press", target="#message", key="x")
    ana.wait_for("#typing", "ben is typing")
    ben.type("")
    ben.do("press", target="#message", key="Tab")
    ana.is_gone("#typing")
    ben.send("echo Hi")
    ana.wait_for("#messages > .user:not(.mine)", "echo Hi")
    ana.click("#people")
    ana.wait_for("#people-dialog .persons", "here now")
    ana.do("fill", target="#invite-name", text="carla")
    ana.do("press", target="#invite-name", key="Enter")
    ana.wait_for("#people-dialog .persons", "carla")
    ana.click("[aria-label='Remove ben']")
    ben.wait_for("#missing", "you do not belong to it any more")
    ben.wait("document.querySelectorAll('#chats a').length === 0")
    assert ben.look("document.querySelector('#message').disabled")
    ben.do("reload")  # the link does not let him in again
    ben.live()
    ben.wait_for("#missing")
    ana.do("fill", target="#invite-name", text="ben")
    ana.do("press", target="#invite-name", key="Enter")
    ben.wait_for("#messages .who", "Ana Ramírez")
    assert ana.problems() == ben.problems() == []
    ana.close()
    ben.close()


def test_a_chat_is_left_and_deleted_after_a_second_question(browser: Node, server: Server) -> None:
    ana = ChatPage(browser, LEFT, server.url)
    ana.ask("echo Hello")
    ben = ChatPage(browser, RIGHT, ana.url)
    ben.wait(f"{LAST} !== null")
    ben.click("#people")
    ben.click("#people-dialog [data-part=leave]")
    ben.wait_for("#welcome")
    ana.click("#people")
    ana.click("#people-dialog [data-part=delete]")
    ana.click("#people-dialog [data-part=keep]")
    ana.is_gone("#people-dialog [data-part=sure]")
    ana.click("#people-dialog [data-part=delete]")
    ana.click("#people-dialog [data-part=delete-now]")
    ana.wait_for("#welcome")
    ana.wait("document.querySelectorAll('#chats a').length === 0")
    assert ana.problems() == ben.problems() == []
    ana.close()
    ben.close()


def test_somebody_with_another_name_is_another_person_in_all_tabs(page: ChatPage, browser: Node) -> None:
    page.ask("echo Mine")
    other = ChatPage(browser, RIGHT, page.url, beside=page)
    page.click("#me")
    page.do("fill", target="#person-name", text="a\u202eb")
    page.do("press", target="#person-name", key="Enter")
    page.wait_for("#person-problem", "invisible")
    page.do("say", field="#person-name", text="Zoë")
    for tab in (page, other):
        tab.wait("globalThis.chat?.me === 'Zoë'")
        tab.live()
        tab.wait_for("#welcome")
        assert tab.look("document.querySelectorAll('#chats a').length") == 0
    assert page.look("document.querySelector('#my-name').textContent") == "Zoë"
    assert page.problems() == []
    other.close()


# the list of chats


def test_titles_are_live_and_search_finds_titles_and_messages(page: ChatPage) -> None:
    for words in ("echo The quick fox", "echo A lazy dog", "count 300"):
        page.click(".new")
        page.send(words)
        if words != "count 300":
            page.reply()
    page.wait_for("#chats a.working .title")
    titles = "[...document.querySelectorAll('#chats .title')].map((e) => e.textContent).sort().join()"
    page.wait(f"{titles} === 'count 300,echo A lazy dog,echo The quick fox'")
    page.is_gone("#chats a.working")
    page.do("press", key="Control+k")
    assert page.look("document.activeElement.id") == "search"
    page.do("fill", target="#search", text="LAZY")
    page.wait_for("#search-status", "hits in your chats")
    assert page.texts("#found mark") == ["lazy", "lazy", "lazy"]  # the title, the question and the reply
    page.do("press", target="#search", key="ArrowDown")
    page.do("press", key="ArrowDown")
    page.do("press", key="Enter")
    page.wait("document.activeElement.classList.contains('message')")
    page.wait_for("#messages", "lazy dog")
    page.do("fill", target="#search", text="nowhere to be found")
    page.wait_for("#search-status", "Nothing found")
    page.do("press", target="#search", key="Escape")
    page.do("press", target="#search", key="ArrowDown")
    first = page.look("document.activeElement.textContent")
    page.do("press", key="ArrowDown")
    assert page.look("document.activeElement.textContent") != first
    page.do("press", key="Home")
    assert page.look("document.activeElement.textContent") == first
    assert page.problems() == []


# which chat is open


def test_a_chat_that_is_gone_is_not_opened_again_but_the_newest_one_is(page: ChatPage, server: Server) -> None:
    page.ask("echo Kept")
    kept = page.chat
    page.click(".new")
    page.ask("echo Deleted")
    gone = page.chat
    other = page.look(f"fetch('api/chats/{gone}', {{ method: 'DELETE' }}).then(({{ status }}) => status)")
    assert other == 200
    page.wait_for("#missing")
    page.do("visit", url=f"{server.url}/")
    page.live()
    page.wait(f"chat.talk?.id === {json.dumps(kept)}")
    assert page.problems() == []


def test_a_slow_invitation_does_not_interrupt_who_has_gone_elsewhere(page: ChatPage, browser: Node) -> None:
    page.ask("echo Hello")
    other = ChatPage(browser, RIGHT, page.url.partition("#")[0])
    other.look(f"void ({SLOW_JOIN})")
    other.look(f"location.hash = {json.dumps(page.chat)}")
    other.wait("globalThis.letJoin !== undefined")
    other.do("press", key="Control+Shift+O")
    other.type("In the middle")
    other.look("void letJoin()")
    other.wait("globalThis.joined")
    other.look("new Promise((next) => setTimeout(next))")
    assert other.look("chat.talk.isNew")
    assert other.field == "In the middle"
    assert other.close() == []


# the board


def test_a_task_shows_at_once_everywhere_and_keys_keep_the_focus(page: ChatPage, browser: Node, server: Server) -> None:
    other = ChatPage(browser, RIGHT, server.url)
    for window in (page, other):
        window.click("#board-button")
    add(page, "Buy milk")
    add(page, "<b>Sell</b> milk")
    other.wait_for("#tasks li", "<b>Sell</b> milk")
    page.look(f"document.querySelector({json.dumps(box('Buy milk'))}).focus()")
    page.do("press", key="Space")
    other.wait(f"document.querySelector({json.dumps(box('Buy milk'))}).checked")
    assert page.look("document.activeElement.type") == "checkbox"
    assert page.look("document.activeElement.labels[0].textContent") == "Buy milk"
    page.ask("count 40")
    assert page.look("document.querySelectorAll('#tasks b').length") == 0
    other.click("[title='Remove Buy milk']")
    page.wait("![...document.querySelectorAll('#tasks li')].some((li) => li.textContent === 'Buy milk')")
    assert other.look("document.activeElement.closest('#board') !== null")
    assert page.problems() == other.problems() == []
    other.close()


def test_what_is_added_without_a_server_shows_waits_and_arrives_once(page: ChatPage, server: Server) -> None:
    page.click("#board-button")
    add(page, "Before")
    server.kill()
    page.wait_for("#lost")
    add(page, "Meanwhile")
    page.wait_for("#tasks .waiting", "Meanwhile")
    page.wait_for("#board-waiting")
    server.start()
    page.live()
    page.wait("document.querySelector('#tasks .waiting') === null")
    page.is_gone("#board-waiting")
    with statestream.connect_sync(server.url, slices=["board"]) as stream:
        titles = [task["title"] for task in stream.state["board"]["tasks"]]
    assert titles.count("Meanwhile") == 1
    assert [problem for problem in page.problems() if not is_of_the_cut(problem)] == []


def test_a_refused_task_comes_back_into_its_field_with_the_reason(page: ChatPage) -> None:
    page.click("#board-button")
    page.look("document.querySelector('#add input').maxLength = 500")
    page.do("say", field="#add input", text="x" * 201)
    page.wait_for("#board-problem", "1 to 200 characters")
    assert page.look("document.querySelector('#add input').value") == "x" * 201
    add(page, "Right")
    page.is_gone("#board-problem")


def test_a_task_that_this_page_adds_is_scrolled_to(page: ChatPage, server: Server) -> None:
    with statestream.connect_sync(server.url, slices=["board"]) as stream:
        for n in range(30):
            stream.dispatch("board/task_added", {"id": f"many-{n}", "title": f"Task {n}"})
    page.click("#board-button")
    page.wait_for("#tasks li", "Task 29")
    add(page, "Mine")
    bottom = "document.querySelector('#tasks li:last-child').getBoundingClientRect().bottom"
    page.wait(f"{bottom} < innerHeight + 1")  # it scrolls by whole pixels
