"""The dashboard asks only for what a server really measures, and for all of it; a real Prometheus answers each panel.

Debian's package `prometheus` has the program. Without it, only names and labels are compared.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
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
from statestream.chat import Chat
from statestream.chat.models import Finish, Usage

class Model:
    name = "counted"

    async def answer(self, turns, tools):
        yield "a"
        yield Usage(input=10, output=3)
        yield Finish(reason="stop")

    async def close(self):
        pass

board = Slice("board", initial={"n": 0})

@board.action
def counted(state):
    state["n"] += 1

chat = Chat(model=Model(), titles=False)
app = create_app(Store([board, *chat.slices], slow=0.0))  # every call is a slow one
chat.setup(app)
"""
CONFIGURATION = """
global: { scrape_interval: 200ms, scrape_timeout: 200ms }
scrape_configs: [{ job_name: statestream, static_configs: [{ targets: ["127.0.0.1:PORT"] }] }]
"""
MAY_BE_EMPTY = {"Behind B"}
"""What only slow clients lead to."""


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
    there["statestream_streams_lagged_total"] |= {"by"}  # has no value without slow clients
    asked: set[str] = set()
    for panel, expression in ASKED.items():
        names = re.findall(r"statestream_\w+", expression)
        assert names, panel
        for name in names:
            assert name in there, f"{panel} asks for {name}"
        labels = set(re.findall(r"[{,](\w+)(?:=|!)", expression))
        labels |= {label for group in re.findall(r"by \((.*?)\)", expression) for label in group.split(", ")}
        assert labels - {"instance"} <= set.union(*(there[name] for name in names)), panel
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
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(everything))) - {"__rate_interval"}
    assert used == variables == {"datasource", "instance"}
    assert all(panel["description"].endswith(".") for panel in PANELS)


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

    async def query(expression: str) -> list[Any]:
        asked = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        async with http.get(f"{prometheus}/api/v1/query", params={"query": asked}) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        result: list[Any] = answer["data"]["result"]
        return result

    async def collected() -> bool:
        """Twice, so that there are rates."""
        try:
            counts = await query('count_over_time(statestream_replies_total{end="complete"}[1m])')
        except aiohttp.ClientError:
            return False
        return bool(counts) and float(counts[0]["value"][1]) >= 2

    await eventually(collected, seconds=30)
    for panel, expression in ASKED.items():
        assert await query(expression) or panel in MAY_BE_EMPTY, panel
    page = (DOCS / "howto/monitoring.md").read_text()
    alerts = re.findall(r"^\| `(.*statestream_.* [=>].*?)` \|", page, re.MULTILINE)
    assert len(alerts) == 3
    for alert in alerts:
        await query(alert.replace("\\|", "|"))
