"""Fixtures that the client tests share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Server
from tests.support.bundling import bundled_page
from tests.support.chat_page import ChatPage
from tests.support.hooked import HOOKS, VERSIONS
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


@pytest.fixture(scope="module", params=VERSIONS)
def packages(request: pytest.FixtureRequest) -> Path:
    return VERSIONS[request.param]


@pytest.fixture(scope="module")
def pages(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page in development, where Strict Mode runs everything twice."""
    return bundled_page(HOOKS / "page.jsx", tmp_path_factory.mktemp("pages"), packages)


@pytest.fixture(scope="module")
def production(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundled_page(HOOKS / "page.jsx", tmp_path_factory.mktemp("production"), packages, production=True)


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> str:
    """A gate of the upstream that only this test opens."""
    return re.sub(r"\W", "-", request.node.name)
