"""Tool calls that wait for approval, on the chat page: what people see, and how they decide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import RIGHT, is_of_the_cut
from tests.support.chat_page import ChatPage, talkative
from tests.support.node import Node
from tests.support.server import Server

ASKED = ".fold[data-status=waiting] .approval"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with talkative() as running:
        yield running


def press(page: ChatPage, label: str) -> None:
    page.look(
        f"[...document.querySelectorAll('.approval button')].find((each) => each.textContent === '{label}').click()"
    )


def test_a_call_is_approved_in_another_window_than_it_was_asked_in(page: ChatPage, browser: Node) -> None:
    page.ask('use {"title": "To be cleared"}')
    page.send("clear the board")
    page.wait_for(ASKED)
    page.wait_for(".fold-state", "needs approval")
    page.wait("document.querySelector('#chats a[aria-current]').ariaLabel.endsWith(', a tool call waits')")
    assert page.look("document.querySelector('#live').textContent") == "A tool call waits."
    other = ChatPage(browser, RIGHT, page.url, beside=page)
    other.wait_for(ASKED)
    press(other, "Approve")
    for each in (page, other):
        each.wait_for("#messages > .assistant.last", "It is there.")
        each.is_gone(ASKED)
        assert "done" in each.texts(".fold-state")
        assert any("The board is empty." in text for text in each.texts(".fold pre"))
    assert other.close() == []
    assert page.problems() == []


def test_a_call_that_was_denied_says_so(page: ChatPage) -> None:
    page.send("clear it, please")
    page.wait_for(ASKED)
    press(page, "Deny")
    page.wait_for("#messages > .assistant.last", "It is there.")
    assert page.texts(".fold-state") == ["denied"]
    assert any(text.startswith("Denied by ") for text in page.texts(".fold-caption"))
    assert page.problems() == []


def test_arguments_that_cannot_be_read_are_not_sent(page: ChatPage) -> None:
    page.send("clear all of it")
    page.wait_for(ASKED)
    press(page, "Change arguments")
    page.do("fill", target=".approval textarea", text="[1]")
    press(page, "Approve")
    page.wait_for(".approval .problem", "must be an object")
    page.do("fill", target=".approval textarea", text='{"all": 12345678901234567}')
    press(page, "Approve")
    page.wait_for(".approval .problem", "more than 15 digits")
    page.do("fill", target=".approval textarea", text='{"all": true}')
    press(page, "Approve")
    page.wait_for("#messages .problem", "do not fit")  # the server knows which arguments the tool takes
    page.do("fill", target=".approval textarea", text="{}")
    press(page, "Approve")
    page.wait_for("#messages > .assistant.last", "It is there.")
    assert all("409" in problem for problem in page.problems())


def test_a_call_still_waits_after_a_reload_and_can_be_stopped(page: ChatPage) -> None:
    page.send("clear it later")
    page.wait_for(ASKED)
    page.do("reload")
    page.live()
    page.wait_for(ASKED)
    page.click("#composer .stop")
    page.wait_for(".outcome", "This reply was stopped.")
    page.is_gone(ASKED)
    assert page.problems() == []


def test_a_call_waits_while_the_server_is_killed_and_started_again(browser: Node, tmp_path: Path) -> None:
    with talkative(tmp_path) as server:
        page = ChatPage(browser, "killed", server.url)
        page.send("clear the board")
        page.wait_for(ASKED)
        server.kill()
        server.start()
        page.live()
        press(page, "Approve")
        page.wait_for("#messages > .assistant.last", "It is there.")
        assert all(is_of_the_cut(problem) for problem in page.close())
