"""The inspector's page in a real browser: what it shows, what people do with it, and what it must not show.

`python -m tests.clients.test_inspector` takes the picture of the page about it. `make soak` adds both themes at each
width.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import statestream
from tests.support import ROOT, Server
from tests.support.browser import CHROMIUM, Tab, is_of_the_cut, text_is
from tests.support.node import Node

INSPECTED = f"{ROOT / 'tests/apps/inspected.py'}:app"
TABS = ("state", "change", "diff", "dispatch", "readers", "weights", "charts", "runs")
CHIEF = "boss:chief"
BIDI = "safe\u202egpj.exe"
MARKUP = "<script>globalThis.taken = true</script><img src=x onerror='taken = true'>"


class Inspector(Tab):
    """A window on the inspector."""

    def __init__(self, browser: Node, server: Server, query: str = "", **look: Any) -> None:
        self.browser, self.name = browser, "inspector"
        self.do("open", url=f"{server.url}/inspect{query}", **look)

    def live(self) -> Inspector:
        self.wait(text_is("#status", "live"))
        return self

    def sign_in(self, token: str) -> Inspector:
        self.wait("!document.querySelector('#sign').hidden")
        self.do("click", target="#sign")
        self.do("say", field="#token", text=token)
        self.wait(text_is("#sign", "Sign out"))
        return self.live()

    def show(self, tab: str) -> None:
        self.do("click", target=f"#tab-{tab}")

    def texts(self, selector: str) -> list[str]:
        """The texts of the elements that can be seen."""
        script = f"[...document.querySelectorAll({json.dumps(selector)})].filter((e) => !e.closest('[hidden]'))"
        return list(self.look(f"{script}.sort((a, b) => a.dataset.index - b.dataset.index).map((e) => e.textContent)"))

    def wait_for_log(self, text: str, count: int = 1) -> None:
        entries = "[...document.querySelectorAll('#entries .row:not([hidden])')]"
        self.wait(f"{entries}.filter((row) => row.textContent.includes({json.dumps(text)})).length >= {count}")

    def wait_for_tree(self, text: str) -> None:
        rows = "[...document.querySelectorAll('#tree .row:not([hidden])')]"
        text_of = "[...row.querySelectorAll('.name, .value')].map((part) => part.textContent).join(':')"
        self.wait(f"{rows}.some((row) => {text_of}.includes({json.dumps(text)}))")

    def wait_for_count(self, count: int) -> None:
        """Until the board's count in the tree is that."""
        rows = "[...document.querySelectorAll('#tree .row:not([hidden])')]"
        row = f"{rows}.find((row) => row.querySelector('.name').textContent === 'count')"
        self.wait(f"{row}?.querySelector('.value').textContent === '{count}'")

    def select(self, text: str) -> None:
        """Clicks the last entry of the log with a text."""
        rows = "[...document.querySelectorAll('#entries .row:not([hidden])')]"
        self.look(f"{rows}.findLast((row) => row.textContent.includes({json.dumps(text)})).click()")

    def ends_well(self) -> None:
        assert self.look("globalThis.taken") is None
        assert self.close() == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    env = {"INSPECT": "yes", "OPEN": "1", "PYTHONPATH": str(ROOT), "JOURNAL": f"sqlite:///{tmp_path / 'journal.db'}"}
    with Server("serve", INSPECTED, env=env) as running:
        yield running


@pytest.fixture
def guarded() -> Iterator[Server]:
    with Server("serve", INSPECTED, env={"INSPECT": "chief", "PYTHONPATH": str(ROOT)}) as running:
        yield running


def dispatch(server: Server, *actions: tuple[str, dict[str, Any]], token: str | None = None) -> None:
    """Each action is a request of its own. A type may end with the key, as in `room/joined room-1`."""
    with statestream.connect_sync(server.url, slices=["board"], token=token) as stream:
        for type, payload in actions:
            name, _, key = type.partition(" ")
            stream.dispatch(name, payload, key=key or None)


def counts(*numbers: int) -> list[tuple[str, dict[str, Any]]]:
    return [("board/counted", {"by": number}) for number in numbers]


# the state and the log


def test_it_works_as_a_part_of_another_application(browser: Node) -> None:
    with Server(
        "serve", f"{ROOT / 'tests/apps/embedded.py'}:app", env={"UNDER": "/live", "PYTHONPATH": str(ROOT)}
    ) as server:
        page = Tab(browser, "inspector", f"{server.url}/live/inspect")
        page.wait(text_is("#status", "live"))
        page.do("click", target="#tab-dispatch")
        page.wait("document.querySelectorAll('#action option').length > 5")
        page.do("click", target="#tab-weights")
        page.wait("document.querySelectorAll('#weights tbody tr').length > 1")
        assert page.close() == []


def test_the_tree_follows_the_state_and_highlights_what_has_changed(browser: Node, server: Server) -> None:
    page = Inspector(browser, server).live()
    page.wait_for_count(0)
    dispatch(server, ("board/task_added", {"title": "Ship it"}))
    page.wait("document.querySelector('#tree [data-fresh]:not([data-fresh=\"\"])') !== null")
    page.wait("document.querySelector('#tree [data-fresh]:not([data-fresh=\"\"])') === null")
    page.look("[...document.querySelectorAll('#tree .row')].find((r) => r.textContent.startsWith('▸tasks')).click()")
    page.wait_for_tree('"title":"Ship it"')
    page.wait("document.querySelector('#value:not([hidden]) pre')?.textContent.includes('Ship it')")
    page.do("press", target="#tree", key="ArrowDown")
    page.do("press", target="#tree", key="ArrowRight")
    page.wait_for_tree('title:"Ship it"')
    page.do("press", target="#tree", key="ArrowLeft")
    page.do("press", target="#tree", key="ArrowLeft")
    page.wait("document.querySelector('#tree .active').textContent.includes('tasks')")
    page.ends_well()


def test_the_log_has_the_past_and_what_happens_with_its_cause(browser: Node, server: Server) -> None:
    dispatch(server, *counts(1, 2))
    page = Inspector(browser, server).live()
    page.wait_for_log("board/counted", 2)
    page.wait_for_log("statestream/opened")
    dispatch(server, ("room/joined 1", {"name": "Ada"}))
    page.wait_for_log("room/joined")
    page.select("room/joined")
    page.show("change")
    page.wait("document.querySelector('#change .content').textContent.includes('Ada')")
    facts = dict(zip(page.texts("#change dt"), page.texts("#change dd"), strict=True))
    assert facts["Action"] == "room/joined"
    assert facts["Slice"] == "room/1"
    assert facts["Version"].startswith("0 → ")
    assert facts["Size"].startswith("19 B, payload ")
    page.ends_well()


def test_the_log_is_filtered_by_words_slice_action_and_actor(browser: Node, guarded: Server) -> None:
    dispatch(guarded, *counts(1, 2), ("room/joined 1", {"name": "Ada"}), token="ann")
    dispatch(guarded, ("board/task_added", {"title": "Ship it"}), token="bob")
    page = Inspector(browser, guarded)
    page.sign_in("ann").wait_for_log("board/task_added")
    shown = "#entries .row:not([hidden]) .type"

    def has(*types: str) -> None:
        same = f"JSON.stringify([...document.querySelectorAll({json.dumps(shown)})].map((e) => e.textContent).sort())"
        page.wait(f"{same} === {json.dumps(json.dumps(sorted(types), separators=(',', ':')))}")

    page.do("fill", target="#filters [name=text]", text="COUNTED")
    has("board/counted", "board/counted")
    page.do("fill", target="#filters [name=text]", text="ann -counted")
    has("room/joined")
    page.do("fill", target="#filters [name=text]", text="")
    page.do("press", target="#filters [name=text]", key="Escape")
    page.do("choose", target="#filters [name=slice]", value="room/1")
    has("room/joined")
    page.do("choose", target="#filters [name=slice]", value="")
    page.do("choose", target="#filters [name=action]", value="board/task_added")
    has("board/task_added")
    page.do("choose", target="#filters [name=action]", value="")
    page.do("choose", target="#filters [name=actor]", value="bob")
    has("board/task_added")
    dispatch(guarded, *counts(7), token="bob")
    has("board/task_added", "board/counted")
    assert page.look("document.querySelector('#count').textContent").startswith("2 of ")
    page.ends_well()


def test_a_paused_log_stands_still_and_goes_on(browser: Node, server: Server) -> None:
    page = Inspector(browser, server).live()
    page.wait_for_count(0)
    page.do("press", target="#entries", key="Space")
    dispatch(server, *counts(5))
    page.wait("document.querySelector('#count').textContent.includes(', 1 more')")
    page.wait_for_count(5)
    assert not [text for text in page.texts("#entries .row") if "board/counted" in text]
    page.do("click", target="#pause")
    page.wait_for_log("board/counted")
    page.ends_well()


# time


def test_the_slider_shows_the_state_at_any_position(browser: Node, server: Server) -> None:
    dispatch(server, *counts(1, 10, 100))
    page = Inspector(browser, server).live()
    page.wait_for_count(111)
    page.do("press", target="#slider", key="ArrowLeft")
    page.wait_for_count(11)
    page.wait("document.querySelector('#moment').textContent.includes('board/counted')")
    page.do("click", target="#back")
    page.wait_for_count(1)
    dispatch(server, *counts(1000))  # the present goes on
    page.wait("document.querySelector('#entries .active.here') !== null")
    page.do("press", target="#slider", key="Home")
    page.wait("document.querySelector('#slider').value === '0'")
    page.wait("document.querySelectorAll('#tree .row:not([hidden])').length === 0")
    page.do("press", target="#slider", key="End")
    page.wait_for_count(1111)
    page.do("press", key="l")
    page.wait("document.querySelector('#live').ariaPressed === 'true' && !document.querySelector('footer.past')")
    page.ends_well()


def test_the_whole_journal_can_be_travelled(browser: Node, server: Server) -> None:
    """Also what is far behind the log's beginning, between landmarks."""
    many(server, 2500)
    page = Inspector(browser, server).live()
    page.wait_for_count(2500)
    first = int(page.look("document.querySelector('#slider').max")) - 2500
    for seq in (3, 999, 1000, 1001, 1777, 2499, 12):
        page.look(f"void inspector.goTo({first + seq})")
        page.wait_for_count(seq)
    page.ends_well()


def many(server: Server, count: int) -> None:
    """Changes in requests of a hundred."""
    program = f"""
import json, urllib.request
body = json.dumps({{"actions": [{{"type": "board/counted", "payload": {{"by": 1}}}}] * 100}}).encode()
for _ in range({count // 100}):
    request = urllib.request.Request("{server.url}/dispatch", body, {{"Content-Type": "application/json"}})
    urllib.request.urlopen(request).read()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_what_an_action_changed_and_the_difference_to_now_and_to_the_pin(browser: Node, server: Server) -> None:
    dispatch(server, *counts(1), ("board/task_added", {"title": "Ship it"}), *counts(10))
    page = Inspector(browser, server).live()
    page.wait_for_log("board/task_added")
    page.select("board/task_added")
    page.do("press", key="d")
    page.wait("document.querySelector('#diff .found').children.length === 1")
    [row] = page.texts("#diff .found li")
    assert "board /tasks/0" in row
    assert "Ship it" in row
    page.look("document.querySelectorAll('[name=sides]')[1].click()")
    page.wait("document.querySelector('#diff .found').textContent.includes('board /count111')")
    page.do("press", key="p")
    page.wait("document.querySelector('#entries .pinned') !== null")
    page.look("document.querySelectorAll('[name=sides]')[2].click()")
    dispatch(server, *counts(100))
    page.wait("document.querySelector('#diff .found').textContent.includes('board /count1111')")
    page.ends_well()


def test_keys_move_jump_pin_and_skip(browser: Node, server: Server) -> None:
    dispatch(server, *counts(1, 10, 100))
    page = Inspector(browser, server).live()
    page.wait_for_log("board/counted", 3)
    for _ in range(4):  # the newest is the whole state
        page.do("press", key="k")
    page.do("press", target="#entries", key="Enter")
    page.wait_for_count(1)
    page.wait("document.querySelector('#entries .here') !== null")
    page.do("press", key="]")
    page.wait_for_count(11)
    page.do("press", key="s")
    page.wait("document.querySelectorAll('#entries .row:not([hidden])').length === 3")
    page.do("click", target="#unskip")
    page.wait_for_log("statestream/opened")
    page.do("press", key="/")
    page.wait("document.activeElement.name === 'text'")
    page.do("press", key="p")  # it is a letter here
    assert page.look("document.activeElement.value") == "p"
    page.do("press", key="Escape")
    page.do("press", key="?")
    page.wait("document.querySelector('#keys').open")
    page.do("click", target="#shortcuts")
    page.do("press", key="Escape")
    page.do("press", key="2")
    page.do("press", target="#tab-state", key="ArrowRight")
    page.wait("!document.querySelector('#change').hidden && document.activeElement.id === 'tab-change'")
    page.ends_well()


def test_the_past_is_played_up_to_now(browser: Node, server: Server) -> None:
    dispatch(server, *counts(1, 10, 100))
    page = Inspector(browser, server).live()
    page.wait_for_count(111)
    page.look("void inspector.goTo(inspector.head - 2)")
    page.wait_for_count(1)
    page.do("click", target="#play")
    page.wait("document.querySelector('#live').ariaPressed === 'true'")
    page.wait_for_count(111)
    page.ends_well()


def test_a_server_that_was_killed_is_followed_again(browser: Node, server: Server) -> None:
    dispatch(server, *counts(1))
    page = Inspector(browser, server).live()
    page.wait_for_log("board/counted")
    server.kill()
    page.wait(text_is("#status", "reconnecting"))
    server.start()
    dispatch(server, *counts(10, 100, 1000))  # the page may receive these as one
    page.wait_for_count(1111)
    page.wait_for_log("board/counted", 4)
    assert page.look("inspector.log.entries.every((each, n, all) => n === 0 || each.number > all[n - 1].number)")
    for count in (111, 11, 1):
        page.do("click", target="#back")
        page.wait_for_count(count)
    assert all(is_of_the_cut(problem) for problem in page.close())


def test_a_history_that_could_not_be_read_is_read_with_the_next_change(browser: Node, server: Server) -> None:
    dispatch(server, *counts(1, 10))
    page = Inspector(browser, server).live()
    page.do("refuse", url="**/inspect/landmarks")
    page.do("reload")
    page.wait("document.querySelector('#notice').textContent.startsWith('the history cannot be read')")
    dispatch(server, *counts(100))
    page.wait_for_log("board/counted", 3)
    page.wait(text_is("#notice", ""))
    assert all("503" in problem for problem in page.close())


def test_somebody_chooses_what_they_follow(browser: Node, server: Server) -> None:
    dispatch(server, ("room/joined 1", {"name": "Ada"}), ("room/joined 2", {"name": "Bob"}))
    page = Inspector(browser, server, "?slices=room/1").live()
    page.wait_for_tree("Ada")
    assert "Bob" not in page.look("document.querySelector('main').textContent")
    page.do("say", field="#follow input", text="room/*")
    page.wait_for_tree("Bob")
    assert page.look("new URLSearchParams(location.search).get('slices')") == "room/*"
    page.do("say", field="#follow input", text="nothing")
    page.wait("document.querySelector('#notice').textContent.includes('no slice')")
    assert page.look("document.querySelector('#status').textContent") == "ended"
    assert all("404" in problem for problem in page.close())


def test_of_too_many_slices_the_plain_ones_are_followed(browser: Node, server: Server) -> None:
    program = f"""
import json, urllib.request
for begin in (0, 600):
    actions = [{{"type": "room/joined", "key": str(begin + n), "payload": {{"name": "x"}}}} for n in range(600)]
    body, headers = json.dumps({{"actions": actions}}).encode(), {{"Content-Type": "application/json"}}
    urllib.request.urlopen(urllib.request.Request("{server.url}/dispatch", body, headers)).read()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    page = Inspector(browser, server).live()
    page.wait_for_count(0)
    page.wait("document.querySelector('#notice').textContent.includes('too many slices')")
    assert all("413" in problem for problem in page.close())


# dispatching


def test_an_action_is_dispatched_by_a_form_of_its_schema(browser: Node, server: Server) -> None:
    page = Inspector(browser, server).live()
    page.show("dispatch")
    page.wait("document.querySelectorAll('#action option').length >= 5")
    page.do("choose", target="#action", value="board/task_added")
    page.wait("document.querySelector('#dispatch [data-part=about]').textContent === 'Adds a task.'")
    labels = page.texts("#dispatch [data-part=fields] label")
    assert labels == ["title", "kind", "owner", "weight"]
    page.do("fill", target="#field-0", text="Ship <b>it</b>")
    page.do("choose", target="#field-1", value='"wish"')
    page.do("fill", target="#field-2", text='{"name": "Ada"}')
    page.do("click", target="#dispatch button.main")
    page.wait("document.querySelector('#dispatch .good')?.textContent.includes('board is at version')")
    with statestream.connect_sync(server.url, slices=["board"]) as stream:
        [task] = stream.state["board"]["tasks"]
    assert task == {"title": "Ship <b>it</b>", "kind": "wish", "weight": 1.0, "owner": {"name": "Ada", "teams": []}}
    page.do("choose", target="#action", value="room/joined")
    page.do("fill", target="#key", text="lobby")
    page.do("fill", target="#field-0", text="Ada")
    page.do("click", target="#dispatch button.main")
    page.wait("document.querySelector('#dispatch .good')?.textContent.includes('room/lobby is at version')")
    assert page.do("problems") == []
    page.do("choose", target="#action", value="board/counted")
    page.do("fill", target="#field-0", text="0")
    page.do("click", target="#dispatch button.main")
    page.wait("document.querySelector('#dispatch .bad')?.textContent === 'refused (nothing): Zero is not counted.'")
    assert all("409" in problem for problem in page.close())


def test_an_action_of_the_log_is_edited_and_dispatched_again(browser: Node, server: Server) -> None:
    dispatch(server, ("room/joined 7", {"name": "Ada"}))
    page = Inspector(browser, server).live()
    page.show("dispatch")
    page.wait("document.querySelectorAll('#action option').length >= 5")
    page.wait_for_log("room/joined")
    page.select("room/joined")
    page.show("change")
    page.do("click", target="#change [name=repeat]")
    page.wait("document.querySelector('#key').value === '7'")
    page.do("click", target="#dispatch summary")
    page.do("fill", target="#dispatch [data-part=payload]", text='{"name": "Bob"}')
    page.do("click", target="#dispatch button.main")
    page.wait("document.querySelector('#dispatch .good') !== null")
    page.show("state")
    page.wait_for_tree('["Ada","Bob"]')
    page.ends_well()


# readers, weights, charts


def test_readers_weights_and_charts_show_what_the_server_counts(browser: Node, server: Server) -> None:
    dispatch(server, *counts(1, 2), ("room/joined 1", {"name": "Ada"}))
    page = Inspector(browser, server).live()
    page.show("readers")
    page.wait("document.querySelectorAll('#readers tbody tr').length === 1")
    with statestream.connect_sync(server.url, slices=["board"]):
        page.wait(
            "[...document.querySelectorAll('#readers tbody tr')].some((row) => row.cells[1].textContent === 'board')"
        )
    page.show("weights")
    page.wait("document.querySelectorAll('#weights tbody tr').length === 2")
    page.show("charts")
    page.wait("document.querySelector('[data-chart=changes] polyline') !== null")
    page.wait("document.querySelector('[data-chart=bytes] output').textContent.includes('a second')")
    dispatch(server, *counts(*range(1, 30)))
    page.wait(
        "document.querySelector('[data-chart=changes] output').textContent.match(/at most (\\d+) a second/)?.[1] > 0"
    )
    page.ends_well()


def test_the_latencies_of_the_server_are_shown(browser: Node, server: Server) -> None:
    page = Inspector(browser, server).live()
    page.show("charts")
    with statestream.connect_sync(server.url, slices=["board"]) as stream:
        for _ in range(100):
            stream.dispatch("board/counted", {"by": 1})
            if page.look(
                "document.querySelector('[data-chart=dispatch] output').textContent.startsWith('half within')"
            ):
                break
            page.look("new Promise((done) => setTimeout(done, 100))")
    page.wait("document.querySelector('[data-chart=dispatch] output').textContent.startsWith('half within')")
    page.ends_well()


def test_the_replies_of_chats_are_listed_with_their_timings(browser: Node, tmp_path: Path) -> None:
    with Server("demo", "--journal", f"sqlite:///{tmp_path / 'demo.db'}") as demo:
        window = Tab(browser, "demo", demo.url)
        window.wait(text_is("#status", "Live"))
        window.do("say", field="#message", text="Hello")
        window.wait("document.querySelector('#messages > .assistant:not(.streaming)') !== null")
        window.do("visit", url=f"{demo.url}/inspect")
        window.wait(text_is("#status", "live"))
        window.do("click", target="#tab-runs")
        window.wait("document.querySelectorAll('#runs tbody tr').length === 1")
        cells = window.look("[...document.querySelectorAll('#runs td')].map((cell) => cell.textContent)")
        assert cells[2] == "complete"
        assert cells[3].endswith("s")
        assert int(cells[5].replace(",", "")) > 1
        window.close()


# traces


def test_a_trace_is_exported_played_and_looked_at_again(browser: Node, server: Server, tmp_path: Path) -> None:
    dispatch(server, *counts(1), ("board/noted", {"name": "text", "value": "x" * 300}))
    page = Inspector(browser, server).live()
    page.wait_for_log("board/noted")
    dispatch(server, *counts(10), ("room/joined 1", {"name": "Ada"}), ("room/closed 1", {}), *counts(100))
    page.wait_for_count(111)
    path = tmp_path / "trace.jsonl"
    page.do("download", target="#export", path=str(path))
    played = statestream.client.replay(path, speed=float("inf"))
    kinds = asyncio.run(_kinds(played))
    assert played.state["board"]["count"] == 111
    assert kinds[0] == "initial"
    assert "removed" in kinds
    dispatch(server, *counts(1000))
    page.do("upload", target="#file", path=str(path))
    page.wait("!document.querySelector('#trace').hidden")
    page.wait_for_count(111)
    page.do("click", target="#back")
    page.do("click", target="#back")
    page.wait_for_tree("room/1")
    page.wait_for_count(11)
    page.do("click", target="#trace button")
    page.wait_for_count(1111)
    page.ends_well()


async def _kinds(played: Any) -> list[str]:
    return [update.kind async for update in played]


def test_a_recording_of_the_command_is_shown_and_another_file_is_not(
    browser: Node, server: Server, tmp_path: Path
) -> None:
    path, other = tmp_path / "run.jsonl", tmp_path / "other.txt"
    with statestream.connect_sync(server.url, slices=["board"]) as stream, stream.record(path):
        for _ in range(250):
            stream.dispatch("board/counted", {"by": 1})
        stream.wait_for(lambda state: state["board"]["count"] == 250, timeout=60)
    other.write_text("nothing\nelse\n")
    page = Inspector(browser, server).live()
    page.do("upload", target="#file", path=str(other))
    page.wait("document.querySelector('#notice').textContent.includes('line 1')")
    page.do("upload", target="#file", path=str(path))
    page.wait_for_count(250)
    page.look("void inspector.jump(inspector.trace.entries[101])")
    page.wait_for_count(101)
    page.ends_well()


# rights


def test_somebody_sees_what_they_may_read_and_nothing_of_the_rest(browser: Node, guarded: Server) -> None:
    secrets = [("payroll/paid", {"who": "eve", "amount": 424242}), ("diary/written boss", {"text": "hidden words"})]
    dispatch(guarded, *secrets, *counts(1), ("room/joined 1", {"name": "Ada"}), token=CHIEF)
    page = Inspector(browser, guarded)
    page.sign_in("ann").wait_for_log("room/joined")
    with statestream.connect_sync(guarded.url, slices=["payroll", "board"], token=CHIEF):
        dispatch(guarded, *secrets, *counts(2), token=CHIEF)
        page.wait_for_count(3)
        for tab in TABS:
            page.show(tab)
            if tab in ("readers", "weights"):
                page.wait(f"document.querySelector('#{tab} [role=status]').textContent.includes('needs the right')")
        page.wait("document.querySelectorAll('#action option').length >= 5")
        page.look("void inspector.goTo(inspector.head - 1)")
        page.wait("document.querySelector('footer.past') !== null")
        told = page.look("document.documentElement.outerHTML + JSON.stringify([inspector.log, inspector.state])")
    for secret in ("payroll", "424242", "hidden words", "diary/boss"):
        assert secret not in told
    page.close()


def test_nothing_is_left_of_what_the_one_before_has_seen(browser: Node, guarded: Server) -> None:
    dispatch(guarded, ("payroll/paid", {"who": "eve", "amount": 424242}), token=CHIEF)
    page = Inspector(browser, guarded).sign_in(CHIEF)
    page.wait_for_log("payroll/paid")
    page.do("click", target="#sign")
    page.wait(text_is("#sign", "Sign in"))
    page.live().wait_for_tree("board")
    assert "payroll" not in page.look("document.documentElement.outerHTML")
    assert page.look("sessionStorage.length && sessionStorage.getItem('statestream-inspector-token')") == ""
    page.ends_well()


def test_a_token_that_no_header_can_carry_is_not_kept(browser: Node, guarded: Server) -> None:
    page = Inspector(browser, guarded)
    page.wait("!document.querySelector('#sign').hidden")
    page.do("click", target="#sign")
    page.do("say", field="#token", text="schlüssel")
    page.wait("document.querySelector('#notice').textContent.includes('ASCII')")
    assert page.look("sessionStorage.getItem('statestream-inspector-token')") is None
    page.do("say", field="#token", text=f"Bearer {CHIEF}")
    page.wait(text_is("#sign", "Sign out"))
    page.live().wait_for_tree("payroll")
    page.ends_well()


def test_an_operator_sees_readers_of_what_they_may_read(browser: Node, guarded: Server) -> None:
    page = Inspector(browser, guarded)
    page.sign_in(CHIEF).show("readers")
    with (
        statestream.connect_sync(guarded.url, slices=["diary/*"], token="ann"),
        statestream.connect_sync(guarded.url, slices=["room/*"], token="bob"),
    ):
        page.wait(
            "[...document.querySelectorAll('#readers tbody tr')].some((row) => row.cells[0].textContent === 'bob')"
        )
        assert not [text for text in page.texts("#readers td") if text in ("ann", "diary/*")]
    page.close()


# hostile and large


def test_what_others_wrote_is_text(browser: Node, server: Server) -> None:
    hostile = {MARKUP: MARKUP, BIDI: BIDI, "constructor": {"toString": 1}, "": "\u0000\u200b"}
    dispatch(
        server, ("board/noted", {"name": MARKUP, "value": hostile}), (f"room/joined {'%3Cscript%3E'}", {"name": BIDI})
    )
    page = Inspector(browser, server).live()
    page.wait_for_log("board/noted")
    for text in ("board/noted", "room/joined"):
        page.select(text)
        for tab in TABS:
            page.show(tab)
            page.look("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.show("diff")
    page.wait("document.querySelector('#diff .found').children.length > 0")
    shown = page.look("document.body.innerText")
    assert "\u202e" not in shown
    assert page.look("document.querySelectorAll('img, script:not([src])').length") == 0
    page.show("change")
    page.select("board/noted")
    page.wait("document.querySelector('#change .content').textContent.includes('\\\\u202e')")
    page.ends_well()


def test_a_trace_with_forbidden_names_harms_nothing(browser: Node, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "evil.jsonl"
    slices = '{"board":{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}},"toString":[1]}'
    path.write_text(
        '{"recording":1,"url":"http://x","slices":null,"began":0}\n'
        f'{{"at":0,"event":"state.initial","id":"2.a","data":{{"reason":"start","slices":{slices},'
        '"versions":{"board":1,"toString":2},"heartbeat":1000}}\n'
        '{"at":1,"event":"state.update","id":"3.a","data":{"slice":"__proto__","from":0,"version":3,"value":{"polluted":1}}}\n'
        '{"at":2,"event":"state.update","id":"4.a","data":{"slice":"board","from":1,"version":4,"patches":'
        '[{"op":"add","path":"/__proto__/polluted","value":1}]}}\n'
        '{"at":3,"event":"state.update","id":"5.a","data":{"slice":"toString","from":2,"version":5,"value":[2],'
        '"cause":{"type":"__proto__","id":"1","payload":{"__proto__":1}}}}\n'
    )
    page = Inspector(browser, server).live()
    page.do("upload", target="#file", path=str(path))
    page.wait_for_tree("__proto__")
    for tab in TABS:
        page.show(tab)
    page.show("diff")
    page.wait("document.querySelector('#diff .found').textContent.includes('toString /0')")
    assert page.look("({}).polluted ?? [].polluted ?? null") is None
    page.ends_well()


def test_the_log_is_bounded_and_only_visible_rows_are_elements(browser: Node, server: Server) -> None:
    page = Inspector(browser, server).live()
    page.wait_for_count(0)
    many(server, 6000)
    page.wait_for_count(6000)
    assert page.look("inspector.log.entries.length") <= 5000
    assert page.look("inspector.shown.length") <= 5000
    assert page.look("document.querySelectorAll('#entries .row').length") < 60
    page.ends_well()


# how it looks

SCREENS = [(320, "light"), (768, "dark"), (1280, "light")]
"""Each width and each theme; `make soak` has all of both."""


@pytest.mark.long
@pytest.mark.parametrize(
    ("width", "theme"),
    [
        pytest.param(width, theme, marks=[] if (width, theme) in SCREENS else [pytest.mark.soak])
        for width in (320, 768, 1280)
        for theme in ("light", "dark")
    ],
)
def test_axe_finds_nothing_and_everything_fits(browser: Node, server: Server, width: int, theme: str) -> None:
    dispatch(server, *counts(1, 2), ("board/task_added", {"title": "a" * 300}), ("room/joined 1", {"name": "Ada"}))
    page = Inspector(browser, server, width=width, height=700, theme=theme).live()
    page.wait("inspector.log.entries.length > 3")
    page.look("inspector.select(inspector.log.entries.at(-2))")
    for tab in ("log", *TABS) if width < 720 else TABS:
        page.show(tab)
        if tab in ("readers", "weights"):
            page.wait(f"document.querySelectorAll('#{tab} tbody tr').length > 0")
        if tab == "dispatch":
            page.wait("!document.querySelector('[data-part=rest]').hidden")
        if tab == "diff":
            page.wait("document.querySelector('#diff .found').children.length > 0")
        page.look("new Promise((done) => setTimeout(done, 60))")
        assert page.do("axe") == [], tab
        assert page.look("document.documentElement.scrollWidth") <= width, tab
        assert page.look("document.documentElement.scrollHeight") <= 700, tab
    page.do("press", key="?")
    page.wait("document.querySelector('#keys').open")
    assert page.do("axe") == []
    page.ends_well()


def take_picture(path: Path) -> None:
    """A board on which something has just happened."""
    env = {"INSPECT": "yes", "OPEN": "1", "PYTHONPATH": str(ROOT)}
    titles = ("Ship the release", "Book the train", "Water the plants", "Call Ada")
    with Server("serve", INSPECTED, env=env) as server, Node("browser.mjs", CHROMIUM) as browser:
        tasks = [
            ("board/task_added", {"title": title, "kind": "wish", "weight": n / 2}) for n, title in enumerate(titles)
        ]
        dispatch(
            server, *tasks, *((f"room/joined {key}", {"name": name}) for key, name in (("42", "Ada"), ("lobby", "Bob")))
        )
        page = Inspector(browser, server, width=1200, height=640).live()
        dispatch(server, *counts(1, 2, 3), ("room/joined 42", {"name": "Eve"}))
        page.look(
            "[...document.querySelectorAll('#tree .row')].find((r) => r.textContent.startsWith('▸tasks')).click()"
        )
        page.select("room/joined")
        page.wait_for_count(6)
        dispatch(server, *counts(36))
        page.wait_for_count(42)
        page.do("picture", path=str(path))
        page.close()


if __name__ == "__main__":
    take_picture(ROOT / "docs/images/inspector.png")
