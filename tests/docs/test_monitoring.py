"""The page on monitoring lists what a server really has: its metrics with their labels, and the codes of its health."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from statestream.server import health
from statestream.store.troubles import TROUBLES
from tests.support import Server
from tests.support.pages import DOCS

PAGE = (DOCS / "howto/monitoring.md").read_text()
APP = """
from statestream import Slice, Store, create_app
from statestream.chat import Chat
from statestream.chat.models.demo import DemoModel

chat = Chat(model=DemoModel(1000))
app = create_app(Store([Slice("board", initial={}), *chat.slices]))
chat.setup(app)
"""


@pytest.fixture
async def families(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """The types of a server's metrics by their names, as Prometheus sees them."""
    (tmp_path / "app.py").write_text(APP)
    with Server("serve", f"{tmp_path / 'app.py'}:app") as server:
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/metrics") as response:
            yield dict(re.findall(r"^# TYPE (\w+) (\w+)$", await response.text(), re.MULTILINE))


def rows() -> dict[str, str]:
    """The metrics of the page's tables, and what is said about each."""
    tables = PAGE.partition("## Metrics")[2].partition("## Logs")[0]
    found = re.findall(r"^\| (`\w+(?:\{\w+\})?`(?:, `\w+`)*) \| (.*) \|$", tables, re.MULTILINE)
    return {f"statestream_{name}": text for names, text in found for name in re.findall(r"`(\w+)", names)}


def test_every_metric_is_on_the_page_and_no_other(families: dict[str, str]) -> None:
    assert families.keys() == rows().keys()


def test_the_page_says_which_metrics_are_histograms(families: dict[str, str]) -> None:
    histograms = {name for name, text in rows().items() if "a histogram" in text or "_seconds" in name}
    histograms -= {name for name, text in rows().items() if "a gauge" in text}
    assert histograms == {name for name, kind in families.items() if kind == "histogram"}


def test_every_reason_of_a_status_is_on_the_page() -> None:
    found = re.findall(r"^\| `(\w+)` \| (degraded|failed) \|", PAGE, re.MULTILINE)
    troubles = [*TROUBLES.values(), health.DEAD, health.STOPS, health.FULL]
    assert dict(found) == {trouble.code: trouble.status for trouble in troubles}
