"""How the chat page looks: to axe, at three widths in both themes, with keys, by touch; and what it loads."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support import Server
from tests.support.browser import LEFT
from tests.support.chat_page import LAST, ChatPage, talkative
from tests.support.node import Node

SHOWN = f"""echo # A title

Text with a [link](https://example.org) and `code`.

```python
# why
x = 'y' + 1
```

- [x] one

| a | b |
|---|---|
| 1 | {"long " * 30}|

> quoted {"w" * 150}"""
STILL = """Promise.all(document.getAnimations()
  .filter((each) => each.effect.getTiming().iterations !== Infinity)
  .map((each) => each.finished.catch(() => {})))"""
SMALL = """[...document.querySelectorAll('button, summary, #tasks label, #chats a')]
  .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest('.flipper'))
  .filter((e) => e.getBoundingClientRect().height < 44)
  .map((e) => e.outerHTML.slice(0, 80))"""
OUTSIDE = """[...document.querySelectorAll(
    'header > *, #composer, #messages > li, .banner, dialog[open] > *, nav > *, aside > *, .content > *')]
  .filter((e) => e.checkVisibility({ visibilityProperty: true }))
  .filter((e) => e.getBoundingClientRect().left < 0 || e.getBoundingClientRect().right > innerWidth)
  .map((e) => e.outerHTML.slice(0, 90))"""
PAINT = """[performance.getEntriesByName('first-contentful-paint')[0].startTime,
  performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd]"""
SHELL = """fetch('./').then(async (answer) => [answer.headers.get('Content-Security-Policy'), await answer.text()])"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with talkative() as running:
        yield running


@pytest.fixture(scope="module")
def talk(browser: Node, server: Server) -> str:
    """The address of a chat that has something of everything."""
    page = ChatPage(browser, "writer", server.url, who="ana")
    page.ask(SHOWN)
    page.ask('use {"title": "Water the plants"}')
    page.send("fail")
    page.wait_for(".outcome", "out of order")
    page.click(".last .retry")
    page.wait("document.querySelector('.last .flipper') !== null")
    page.reply()
    page.send("fail again")
    page.wait_for(".outcome", "out of order")
    url = page.url
    page.close()
    return url


def fits(page: ChatPage, width: int) -> None:
    """The page hides what is too wide, so each part is measured."""
    page.look(STILL)
    assert page.look(OUTSIDE) == []
    assert page.look("document.documentElement.scrollWidth") <= width
    within = "[...document.querySelectorAll('#scroller, #sidebar, #board, dialog[open]')]"
    assert page.look(f"{within}.filter((e) => e.scrollWidth > e.clientWidth).map((e) => e.id)") == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_and_everything_fits(browser: Node, talk: str, theme: str) -> None:
    page = ChatPage(browser, LEFT, talk, who="ana", height=700, theme=theme)
    page.wait(f"{LAST} !== null")
    page.look("document.querySelectorAll('.fold').forEach((fold) => (fold.open = true))")
    page.wait("document.querySelector('.hljs-string') !== null")
    page.look("document.querySelectorAll('.message').forEach((each) => each.classList.add('fresh'))")
    for width in (1280, 768, 320):
        page.do("resize", width=width, height=700)
        fits(page, width)
        page.click("#board-button")
        page.wait_for("#tasks li")
        fits(page, width)
        assert page.do("axe") == [], width
        page.click("#close-board")
        page.click("#people")
        fits(page, width)
        if width == 320:
            assert page.do("axe") == [], "people"
        page.do("press", key="Escape")
    page.click("#menu")
    fits(page, width)
    assert page.do("axe") == [], "menu"
    page.ends_well()


def test_the_empty_page_and_the_page_without_a_server_pass_axe(browser: Node, server: Server) -> None:
    page = ChatPage(browser, LEFT, server.url)
    page.wait_for("#welcome")
    page.do("resize", width=320, height=500)
    assert page.look("document.querySelector('#scroller').scrollTop") == 0, "it is read from its beginning"
    assert page.do("axe") == []
    page.do("unplug", offline=True)
    page.do("say", field="#message", text="echo Hello")
    page.wait_for("#lost")
    page.wait_for("#composer .note")
    assert page.do("axe") == []
    page.close()


def test_the_theme_that_somebody_chooses_is_kept(browser: Node, server: Server) -> None:
    page = ChatPage(browser, LEFT, server.url)
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.look(back)
    page.click("#theme")
    dark = page.look(back)
    assert dark != light
    page.do("reload")
    page.live()
    assert page.look(back) == dark
    page.ends_well()


def test_targets_are_large_enough_for_fingers(browser: Node, talk: str) -> None:
    page = ChatPage(browser, LEFT, talk, who="ana", width=390, height=800, touch=True)
    page.wait(f"{LAST} !== null")
    page.click("#board-button")
    page.wait_for("#tasks li")
    assert page.look(SMALL) == []
    page.click("#close-board")
    page.click("#menu")
    assert page.look(SMALL) == []
    page.close()


def test_keys_reach_everything_and_focus_goes_where_people_expect_it(browser: Node, talk: str) -> None:
    page = ChatPage(browser, LEFT, talk, who="ana", width=700)
    page.wait(f"{LAST} !== null")
    assert page.look("document.activeElement.id") == "message"
    page.do("press", key="Control+k")
    assert page.look("document.activeElement.id") == "search"
    page.do("press", key="Escape")
    page.wait("!document.querySelector('#sidebar').classList.contains('open')")
    assert page.look("document.activeElement.id") == "menu"
    page.do("press", key="Control+Shift+O")
    page.wait_for("#welcome")
    assert page.look("document.activeElement.id") == "message"
    page.do("press", target="#message", key="Shift+Enter")
    assert page.field == "\n"
    page.type("")
    page.look("document.querySelector('.skip').focus()")
    page.do("press", key="Enter")
    page.wait("document.activeElement.id === 'message'")
    assert page.url.endswith("#new"), "it leads to no other chat"
    page.do("press", target="#board-button", key="Enter")
    page.wait("document.querySelector('#board').contains(document.activeElement)")
    page.do("press", key="Escape")
    page.wait("document.activeElement.id === 'board-button'")
    page.ends_well()


def test_the_page_asks_its_own_server_only_and_paints_before_its_scripts(
    browser: Node, talk: str, server: Server
) -> None:
    page = ChatPage(browser, LEFT, talk, who="ana")
    page.wait("document.querySelector('.hljs-string') !== null")
    names = page.look("performance.getEntriesByType('resource').map(({ name }) => name)")
    assert all(name.startswith((f"{server.url}/", "data:")) for name in names)
    preloaded = set(page.look("[...document.querySelectorAll('link[rel=modulepreload]')].map(({ href }) => href)"))
    modules = {name for name in names if name.endswith(".js") and "/highlight/" not in name}
    modules.discard(f"{server.url}/js/chat/page.js")
    assert modules == preloaded
    first, ready = page.look(PAINT)
    assert first < 1000 or first < ready, "it paints within a second, on this machine too"
    policy, html = page.look(SHELL)
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "'unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "<style" not in html
    assert not re.search(r"<script(?! type=\"module\" src=)", html)
    assert not re.search(r'\s(style|on\w+)="', html)
    page.ends_well()
