"""The examples that have a folder of their own, used by two people with a browser each.

`python -m tests.support.example_pictures` takes their pictures.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.support import Server, dispatch, eventually, get_state
from tests.support.browser import text_is
from tests.support.bundling import packages
from tests.support.examples import EXAMPLES, PAGES, Window, copy_of, example, react_chat, run
from tests.support.node import Node
from tests.support.paths import NODE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", PAGES)
def test_an_example_explains_itself(name: str) -> None:
    """It has a picture, the commands that run it, and links that lead somewhere."""
    folder = EXAMPLES / name
    text = (folder / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert all("://" in link or (folder / link).exists() for link in links), links
    assert f"../../docs/images/example-{name}.png" in links
    assert f"statestream serve examples/{name}/app.py:app" in text


# the dashboard


@pytest.mark.long
def test_the_dashboard_shows_the_samples_of_a_producer_in_two_browsers(browser: Node, tmp_path: Path) -> None:
    with example("dashboard", tmp_path) as server:
        first = Window(browser, server.url).live()
        assert "start producer.py" in first.wait("document.querySelector('#notice').textContent")
        first.is_well_made()
        command = [sys.executable, "-W", "error", str(EXAMPLES / "dashboard/producer.py"), server.url]
        producer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            tabs = [first, Window(browser, server.url, narrow=True).live()]
            for tab in tabs:
                tab.do("click", target="summary")
                tab.wait("document.querySelectorAll('tbody tr').length >= 3")
        finally:
            producer.send_signal(signal.SIGINT)
            _, said = producer.communicate(timeout=30)
        assert (producer.returncode, said) == (0, "")
        rows = "tbody tr:first-child"
        tabs[1].wait(text_is(rows, tabs[0].texts(rows)[0]))
        assert tabs[0].texts("tbody td") == tabs[1].texts("tbody td")
        assert tabs[0].texts("dt") == ["All cores", "Used", "Received", "Sent", "Read", "Written"]
        assert all(re.fullmatch(r"[\d.]+ (%|[kMGT]?B/s)", text) for text in tabs[0].texts("dd"))
        for tab in tabs:
            assert "silent since" in tab.wait("document.querySelector('#notice').textContent")
            look_back(tab)
            tab.ends_well()


def look_back(tab: Window) -> None:
    """The arrow keys move one crosshair through all charts, and say what is under it."""
    oldest = tab.texts("tbody tr:last-child td")[0]
    tab.do("press", target=".plot", key="Home")
    tab.wait_for("time", *[oldest] * 4)
    said = tab.look("document.querySelector('.plot').ariaValueText")
    assert re.fullmatch(rf"{oldest}: All cores [\d.]+ %", said)
    tab.do("press", target=".plot", key="Escape")
    tab.wait_for("time", *["now"] * 4)


# the board


async def add_cards(http: aiohttp.ClientSession, server: Server, **columns: str) -> None:
    """The letters of each column are its cards."""
    for column, letters in columns.items():
        for id in letters:
            await dispatch(http, server.url, "board/card_added", {"id": id, "title": id})
            await dispatch(http, server.url, "board/card_moved", {"id": id, "column": column})


def card(id: str) -> str:
    return f"[data-id={id}] button"


def shows(tab: Window, **columns: str) -> None:
    """Waits until each column has these cards, in their order."""
    for column, letters in columns.items():
        tab.wait_for(f"[data-column={column}] li span", *letters)


async def test_a_card_that_is_dragged_in_one_browser_moves_in_the_other(
    browser: Node, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    with example("board", tmp_path) as server:
        await add_cards(http, server, todo="abc", done="xy")
        first, second = Window(browser, server.url).live(), Window(browser, server.url, narrow=True).live()
        shows(first, todo="abc", doing="", review="", done="xy")
        first.do("drag", **{"from": "[data-id=a]", "to": "[data-id=y]", "at": {"x": 20, "y": 4}})
        for tab in (first, second):
            shows(tab, todo="bc", done="xay")
        first.do("drag", **{"from": "[data-id=b]", "to": "[data-column=review] ul"})
        shows(second, todo="c", review="b")
        second.do("say", field="#add input", text="New")
        first.wait_for("[data-column=todo] li span", "c", "New")
        for tab in (first, second):
            tab.ends_well()


async def test_a_card_is_moved_without_dragging(browser: Node, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    with example("board", tmp_path) as server:
        await add_cards(http, server, todo="abc", doing="x")
        tab = Window(browser, server.url, narrow=True).live()
        shows(tab, todo="abc")
        for key, columns in (
            ("Down", {"todo": "bac"}),
            ("Right", {"todo": "bc", "doing": "xa"}),
            ("Up", {"doing": "ax"}),
        ):
            tab.do("press", target=card("a"), key=f"Arrow{key}")
            shows(tab, **columns)
            assert tab.look("document.activeElement.ariaLabel") == "Move “a”"
        assert tab.texts("#said") == ["“a” is now in “In progress”, 1 of 2."]
        tab.do("click", target=card("a"))
        tab.is_well_made()
        tab.do("click", target="#mover [value=done]")
        shows(tab, doing="x", done="a")
        tab.do("click", target=card("b"))
        tab.do("click", target="#mover [value=remove]")
        shows(tab, todo="c")
        tab.ends_well()


async def test_moves_at_the_same_time_and_offline_end_in_one_order(
    browser: Node, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """Each browser moves cards while it is offline, one of them a card that the other one moves or removes as well."""
    with example("board", tmp_path) as server:
        await add_cards(http, server, todo="abcdef")
        first, second = Window(browser, server.url).live(), Window(browser, server.url).live()
        for tab in (first, second):
            shows(tab, todo="abcdef")
            tab.do("unplug", offline=True)
        first.do("press", target=card("c"), key="ArrowUp")
        first.do("press", target=card("e"), key="ArrowRight")
        shows(first, todo="acbdf", doing="e")
        first.wait_for("#status", "Offline: 2 to be sent")
        second.do("press", target=card("e"), key="ArrowUp")
        second.do("press", target=card("f"), key="ArrowRight")
        shows(second, todo="abced", doing="f")
        await dispatch(http, server.url, "board/card_removed", {"id": "f"})
        for tab in (first, second):
            tab.do("unplug", offline=False)
        second.wait_for("#problem", "Somebody has removed this card.")
        for tab in (first, second):
            tab.wait("document.querySelector('.waiting') === null")

        async def same() -> bool:
            cards = (await get_state(http, server.url))["slices"]["board"]["cards"]
            order = [each["id"] for each in sorted(cards, key=lambda each: str(each["column"]))]
            shown = [
                tab.texts("[data-column=doing] span") + tab.texts("[data-column=todo] span") for tab in (first, second)
            ]
            return shown == [order, order] and "".join(sorted(order)) == "abcde" and order.index("c") < order.index("b")

        await eventually(same)
        for tab in (first, second):
            tab.close()


async def test_cards_that_wait_are_marked_in_all_tabs_and_after_a_reload(
    browser: Node, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """The first tab is to send, and does not get an answer."""
    with example("board", tmp_path) as server:
        await add_cards(http, server, todo="abc")
        first = Window(browser, server.url).live()
        shows(first, todo="abc")
        held = "(url, init) => (init?.method === 'POST' ? new Promise(() => {}) : request(url, init))"
        first.look(f"void (globalThis.request = fetch, globalThis.fetch = {held})")
        first.do("press", target=card("a"), key="ArrowRight")
        shows(first, todo="bc", doing="a")
        second = Window(browser, server.url, beside=first.name).live()
        for tab in (first, second):
            tab.wait_for(".waiting span", "a")
        second.do("reload")
        second.live().wait_for(".waiting span", "a")
        first.close()
        shows(second, todo="bc", doing="a")
        second.wait("document.querySelector('.waiting') === null")
        second.ends_well()


# the form


NEAR = """(() => {
  const placeOf = (selector) => document.querySelector(selector)?.getBoundingClientRect();
  const shown = placeOf("#pointers b"), field = placeOf("#summary");
  return shown?.top > field.top && shown.top < field.bottom && shown.left < field.left + 60;
})()"""
"""The pointer of the other one is over the same field as in their window."""


async def test_two_people_fill_in_a_form(browser: Node, tmp_path: Path) -> None:
    with example("form", tmp_path) as server:
        ada, ben = Window(browser, server.url).live(), Window(browser, server.url, narrow=True).live()
        for tab, name in ((ada, "Ada"), (ben, "Ben")):
            tab.do("fill", target="#you", text=name)
        ada.wait_for("#people li", "Ada (you)", "Ben")
        ben.wait("document.querySelectorAll('#people li').length === 2")
        ada.do("fill", target="#title", text="Party")
        ben.wait("document.querySelector('#title').value === 'Party'")
        ben.wait_for("[data-area=title] .editors", "Ada is editing")
        ada.do("hover", target="#summary", at={"x": 60, "y": 50})
        ben.wait(NEAR)
        ben.wait_for("#pointers b", "Ada")
        conflict(ada, ben)
        ada.is_well_made()
        ada.do("visit", url="about:blank")
        ben.wait_for("#people li", "Ben (you)")
        ben.wait_for("#pointers b")
        ben.ends_well()
        ada.close()


def conflict(ada: Window, ben: Window) -> None:
    """Both write into one field: nobody's text changes while they write, and of both, the last one counts."""
    ben.do("fill", target="#title", text="Picnic")
    assert "Ben has changed this to “Picnic”" in ada.wait("document.querySelector('#title-note').textContent")
    assert ada.look("document.querySelector('#title').value") == "Party"
    ada.do("click", target="#title-note button")
    ada.wait(
        "document.querySelector('#title').value === 'Picnic' && !document.querySelector('#title-note').textContent"
    )
    ada.do("hover", target="#summary", at={"x": 60, "y": 50})
    ben.wait(NEAR)
    ada.do("fill", target="#title", text="Feast")
    assert "Ada has changed this" in ben.wait("document.querySelector('#title-note').textContent")
    ben.wait(NEAR)  # although the note has moved the field
    ben.do("fill", target="#title", text="Ball")
    ada.wait("document.querySelector('#title-note').textContent.includes('Ball')")
    ada.do("press", key="Tab")
    ada.do("press", key="Tab")
    ada.wait("document.querySelector('#title-note').textContent.includes('after you. You had “Feast”')")
    assert ada.look("document.querySelector('#title').value") == "Ball"
    ada.do("click", target="#title-note button")
    ben.do("fill", target="#host", text="Ben")
    for tab in (ada, ben):
        tab.wait("document.querySelector('#title').value === 'Feast'")


async def test_who_left_the_form_without_a_word_is_removed(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    program = copy_of("form", tmp_path / "form")
    program.write_text(program.read_text().replace("GONE_AFTER = 12.0", "GONE_AFTER = 0.4"))
    with Server("serve", f"{program}:app") as server:
        await dispatch(http, server.url, "people/seen", {"id": "1", "name": "Ada", "hue": 0})

        async def is_gone() -> bool:
            return (await get_state(http, server.url))["slices"]["people"] == {}

        await eventually(is_gone)


# the chat in React


def test_the_chat_in_react_passes_the_compiler_with_the_versions_of_the_tests(tmp_path: Path) -> None:
    wanted = json.loads((EXAMPLES / "react-chat/package.json").read_text())
    tested = json.loads((NODE / "web/package.json").read_text())["dependencies"]
    client = {"statestream": "file:../../statestream/browser"}
    assert wanted["dependencies"] | wanted["devDependencies"] == tested | client
    folder = copy_of("react-chat", tmp_path / "react-chat").parent
    packages(folder, NODE / "web")
    run(sys.executable, "-m", *wanted["scripts"]["types"].split(), cwd=folder)
    run("node", "node_modules/typescript/bin/tsc", cwd=folder)


def enter(tab: Window, name: str) -> None:
    tab.wait("document.querySelector('#name')")
    tab.do("say", field="#name", text=name)
    tab.live()


@pytest.mark.long
async def test_two_people_use_the_chat_in_react(browser: Node, tmp_path: Path) -> None:
    with react_chat(tmp_path) as server:
        ada, ben = Window(browser, server.url), Window(browser, server.url, narrow=True)
        ben.wait("document.querySelector('#name')")
        ben.is_well_made()
        enter(ada, "Ada")
        ada.do("say", field="textarea", text="Hello")
        ada.wait("document.querySelector('.assistant.complete')")
        ben.look(f"void (location.href = {json.dumps(ada.look('location.href'))})")
        enter(ben, "Ben Ö.")
        ada.wait_for(".people li", "Ada", "Ben Ö.")
        ben.do("fill", target="textarea", text="And")
        ada.wait_for(".people span", "Ben Ö. is typing")
        ben.do("say", field="textarea", text="And now?")
        for tab in (ada, ben):
            tab.wait("document.querySelectorAll('ol > li').length === 4 && document.querySelector('.streaming p')")
        shown = [
            tab.wait("!document.querySelector('li.streaming') && document.querySelector('ol').textContent")
            for tab in (ada, ben)
        ]
        assert shown[0] == shown[1]
        ada.do("click", target="text=Regenerate")
        ben.wait_for(".assistant:last-child .actions span", "2 of 2")
        ben.do("click", target="text=Stop")
        ada.wait("document.querySelector('.assistant.stopped')")
        ada.do("click", target="[aria-label='Previous version']")
        for tab in (ada, ben):
            tab.wait("document.querySelector('.assistant:last-child.complete')")
        assert ada.texts("ol") == ben.texts("ol")
        before = ada.texts("ol")
        ada.do("reload")
        ada.live()
        ada.wait_for("ol", *before)
        assert ada.texts("nav li") == ben.texts("nav li")
        for tab in (ada, ben):
            tab.ends_well()
