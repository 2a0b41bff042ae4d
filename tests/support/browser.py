"""Windows of Chromium, and the errors that the browser reports."""

from __future__ import annotations

import atexit
import json
from typing import Any

from tests.support.node import Node
from tests.support.paths import NODE

LEFT, RIGHT = "left", "right"
CHROMIUM = str(NODE / "chromium.sh")
"""Not its headless shell, which takes less CPU time but now and then stops drawing a page that it shows."""
_chromium: list[Node] = []


def chromium() -> Node:
    """The browser that the tests of this process share, as its start takes a second of CPU time."""
    if not _chromium or _chromium[-1].is_lost:
        _chromium.append(Node("browser.mjs", CHROMIUM))
        atexit.register(_chromium[-1].close)
    return _chromium[-1]


class Tab:
    """A window on any page. `beside` another one, it is a tab of the same browser."""

    def __init__(self, browser: Node, name: str, url: str, beside: Tab | None = None) -> None:
        self.browser, self.name = browser, name
        self.do("open", url=url, beside=None if beside is None else beside.name)

    def do(self, what: str, **more: Any) -> Any:
        return self.browser.ask(what, window=self.name, **more)

    def wait(self, script: str) -> Any:
        return self.do("wait", script=script)

    def look(self, script: str) -> Any:
        return self.do("look", script=script)

    def close(self) -> list[str]:
        """What the browser had to complain about."""
        problems: list[str] = self.do("problems")
        self.do("close")
        return problems


def text_is(selector: str, text: str) -> str:
    return f"document.querySelector({json.dumps(selector)})?.textContent === {json.dumps(text)}"


def is_of_the_cut(problem: str) -> bool:
    """What a browser must say when its server is killed, and nothing else."""
    cut = ("INCOMPLETE_CHUNKED_ENCODING", "CONNECTION_REFUSED", "CONNECTION_RESET", "EMPTY_RESPONSE")
    return any(f"net::ERR_{name}" in problem for name in cut)
