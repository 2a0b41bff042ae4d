"""Fixtures that the client tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import Server
from tests.support.chat_page import ChatPage
from tests.support.node import Node
from tests.support.tabs import Tabs


@pytest.fixture(scope="module")
def replicas() -> Iterator[Node]:
    with Node("replica.mjs") as running:
        yield running


@pytest.fixture(scope="module")
def window(browser: Node, server: Server) -> Iterator[ChatPage]:
    """A window on the chat page of the module's `server`."""
    opened = ChatPage(browser, "window", server.url)
    yield opened
    opened.close()


@pytest.fixture
def page(window: ChatPage) -> ChatPage:
    """A new chat, in the window of all tests."""
    return window.afresh()


@pytest.fixture
def tabs(browser: Node, server: Server) -> Iterator[Tabs]:
    """Tabs on the module's `server`. None is open yet."""
    some = Tabs(browser, server.url)
    yield some
    some.close()
