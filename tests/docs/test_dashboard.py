"""The dashboard asks only for what a server really measures, and for all of it; a real Prometheus answers each panel.

Debian's package `prometheus` has the program. Without it, only names and labels are compared.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import PlainClient, Server, dispatch, eventually
from tests.support.pages import DOCS
from tests.support.typed import free_port

DASHBOARD = json.loads((DOCS / "dashboards/statestream.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ASKED = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
APP = """
from statestream import Slice, Store, create_app
from statestream.chat import Chat, Price
from statestream.chat.models import Finish, Usage

class Model:
    name = "counted"

    async def answer(self, turns, tools, settings):
        yield "a"
        yield Usage(input=10, output=3)
        yield Finish(reason="stop")

    async def close(self):
        pass

board = Slice("board", initial={"n": 0})

@board.action
def counted(state):
    state["n"] += 1

@board.action
def broken(state):
    raise RuntimeError

chat = Chat(model=Model(), titles=False, prices={"counted": Price(input=1, output=2)})
app = create_app(Store([board, *chat.slices], slow=0.0))  # every call is a slow one
chat.setup(app)
"""
CONFIGURATION = """
global: { scrape_interval: 200ms, scrape_timeout: 200ms }
scrape_configs: [{ job_name: statestream, static_configs: [{ targets: ["127.0.0.1:PORT"] }] }]
"""
QUIET = {"Trouble", "Requests that failed", "Slow clients brought to the head", "Limits", "Following", "Retries"}
"""Panels without a line while the server is well, or alone."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "app.py").write_text(APP)
    with Server("serve", f"{tmp_path / 'app.py'}:app") as running:
        yield running


async def busy(http: aiohttp.ClientSession, server: Server) -> None:
    """Does everything that a panel shows, except for slow clients."""
    with PlainClient(server.port) as reader:
        reader.read_until(lambda _: True)
        await dispatch(http, server.url, "board/counted")
        reader.read_until(lambda _: reader.state["board"]["n"] > 0)
    with reader.connect():
        reader.read_until(lambda frame: frame.event == "state.resumed")
    async with http.post(f"{server.url}/api/chats") as response:
        key = (await response.json())["id"]
    body = {"messages": [{"role": "user", "content": "hello"}]}
    async with http.post(f"{server.url}/api/chats/{key}/stream", json=body) as response:
        await response.text()

    async def counted() -> bool:
        done = await server.metric(http, 'replies_total{end="complete"}') > 0
        return done and await server.metric(http, 'streams_ended_total{reason="left"}') > 0

    await eventually(counted)


async def series(http: aiohttp.ClientSession, server: Server) -> dict[str, set[str]]:
    """What a server measures: the labels of each name that Prometheus sees."""
    async with http.get(f"{server.url}/metrics") as response:
        text = await response.text()
    found: dict[str, set[str]] = {}
    for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            found[name + suffix] = set()
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? \S+$", text, re.MULTILINE):
        found[name] |= set(re.findall(r'(\w+)="', labels))
    return found


async def test_each_panel_asks_for_what_there_is(server: Server, http: aiohttp.ClientSession) -> None:
    await busy(http, server)
    there = await series(http, server)
    asked: set[str] = set()
    for panel, expression in ASKED.items():
        names = re.findall(r"statestream_\w+", expression)
        assert names, panel
        for name in names:
            assert name in there, f"{panel} asks for {name}"
        labels = set(re.findall(r"[{,](\w+)(?:=|!)", expression))
        labels |= {label for group in re.findall(r"by \((.*?)\)", expression) for label in group.split(", ")}
        assert labels - {"instance", "worker"} <= set.union(*(there[name] for name in names)), panel
        asked |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert asked == {re.sub(r"_(bucket|sum|count)$", "", name) for name in there}, "each metric is in a panel"


def test_the_dashboard_can_be_imported() -> None:
    """What Grafana needs: ids of their own, places that do not overlap, a data source that its user chooses."""
    everything = DASHBOARD["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert DASHBOARD["schemaVersion"] == 39, "of Grafana 11: older ones refuse what is newer, newer ones migrate it"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert all(each["datasource"] == chosen for each in [panel, *panel["targets"]]), panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCD")[: len(panel["targets"])]
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(everything))) - {"__rate_interval"}
    assert used == variables == {"datasource", "instance"}
    assert all(panel["description"].endswith(".") for panel in PANELS)


def test_panels_show_what_they_say() -> None:
    """Rates of counters, so that restarts do not show; quantiles over all processes; units; why a panel is empty."""
    assert DASHBOARD["panels"][0]["title"] == "Health"
    for panel in PANELS:
        title, defaults = panel["title"], panel["fieldConfig"]["defaults"]
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert all(legends), title
        assert len(set(legends)) == len(legends), title
        for target in panel["targets"]:
            query = target["expr"]
            counters = re.findall(r"statestream_\w+(?:_total|_bucket|_sum|_count)\b", query)
            assert len(re.findall(r"rate\(", query)) == len(counters) + query.count("rate(statestream_position"), title
            assert query.count("histogram_quantile(") == query.count("sum by (le) (rate("), title
            assert "noValue" in defaults or " > 0" not in query, f"{title} does not say why it is empty"
            if "histogram_quantile" in query and "_seconds_bucket" in query:
                assert defaults["unit"] == "s", title
            elif " / " not in query and "tokens_per_second" not in query and "rate(" in query:
                per = "/min" if query.startswith("60 * ") else "/s"
                assert defaults["unit"] == ("Bps" if "bytes" in query else f"suffix:{per}"), title
    assert {title for title in QUIET if all(title != panel["title"] for panel in PANELS)} == set()


@pytest.fixture
async def prometheus(server: Server, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a Prometheus that collects the server's metrics."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Debian's package prometheus is not installed")
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(CONFIGURATION.replace("PORT", str(server.port)))
    port = free_port()
    command = [program, f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        yield f"http://127.0.0.1:{port}"
        process.terminate()


async def test_a_real_prometheus_answers_each_panel(
    prometheus: str, server: Server, http: aiohttp.ClientSession
) -> None:
    await busy(http, server)

    query = partial(answers, http, prometheus)
    await eventually(partial(collected, query), seconds=30)
    await busy(http, server)

    async def shown() -> bool:
        """Once it has collected what has just happened, each panel has a line."""
        empty = {panel["title"] for panel in PANELS for target in panel["targets"] if not await query(target["expr"])}
        return empty <= QUIET

    await eventually(shown, seconds=30)


async def test_an_alert_sees_the_first_error(prometheus: str, server: Server, http: aiohttp.ClientSession) -> None:
    query = partial(answers, http, prometheus)
    await eventually(partial(collected, query), seconds=30)
    page = (DOCS / "howto/monitoring.md").read_text()
    alerts = re.findall(r"^\| `(.*statestream_.* [=>].*?)` \|", page, re.MULTILINE)
    assert len(alerts) == 3
    for alert in alerts:
        assert not await query(alert.replace("\\|", "|"))
    status, _ = await dispatch(http, server.url, "board/broken")
    assert status == 500
    alert = next(each for each in alerts if "requests_total" in each).replace("\\|", "|")

    async def alarmed() -> bool:
        return bool(await query(alert))

    await eventually(alarmed, seconds=30)


async def answers(http: aiohttp.ClientSession, prometheus: str, expression: str) -> list[Any]:
    """The series that a query shows now, as far as they are numbers: Grafana draws no others."""
    asked = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
    async with http.get(f"{prometheus}/api/v1/query", params={"query": asked}) as response:
        answer = await response.json()
    assert answer["status"] == "success", answer
    return [each for each in answer["data"]["result"] if each["value"][1] != "NaN"]


async def collected(query: Callable[[str], Awaitable[list[Any]]]) -> bool:
    """Twice, so that there are rates."""
    try:
        counts = await query("count_over_time(statestream_position[1m])")
    except aiohttp.ClientError:
        return False
    return bool(counts) and float(counts[0]["value"][1]) >= 2
