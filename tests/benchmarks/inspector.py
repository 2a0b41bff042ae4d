"""How smooth the inspector is while 500 changes per second arrive, and what a page costs after a while.

The server, the sender and the browser share the machine. The frames are those that the page was given to draw in.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from tests.benchmarks.measure import short, table
from tests.support.browser import CHROMIUM, Tab, text_is
from tests.support.node import Node
from tests.support.paths import ROOT
from tests.support.server import Server

RATE: Final = 500
SECONDS: Final = 10
TASKS: Final = 200
TABS: Final = ("state", "change", "diff", "charts")
FRAMES: Final = """
new Promise((done) => {
  const times = [], began = performance.now(), before = inspector.changes;
  const tick = (now) => {
    times.push(now);
    if (now - began < SECONDS * 1000) return requestAnimationFrame(tick);
    const gaps = times.slice(1).map((time, at) => time - times[at]).sort((a, b) => a - b);
    const seconds = (times.at(-1) - times[0]) / 1000, heap = performance.memory.usedJSHeapSize;
    const changes = (inspector.changes - before) / seconds, p99 = gaps[Math.floor(gaps.length * 0.99)];
    done({ fps: gaps.length / seconds, p99, worst: gaps.at(-1), changes, heap, kept: inspector.log.length });
  };
  requestAnimationFrame(tick);
})
"""


def sender(url: str) -> subprocess.Popen[bytes]:
    """Moves tasks of the board at the rate, for longer than is measured."""
    command = [sys.executable, "-m", "statestream", "bench", url, "--slices", "board", "--readers", "1"]
    payload = json.dumps({"at": 7, "to": 150})
    load = ["--rate", str(RATE), "--seconds", str(SECONDS + 5), "--action", "board/task_moved", "--payload", payload]
    return subprocess.Popen([*command, *load], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def measured(browser: Node, server: Server, tab: str) -> Any:
    page = Tab(browser, tab, f"{server.url}/inspect")
    page.wait(text_is("#status", "live"))
    page.look("inspector.select(inspector.log.entries.at(-2))")
    page.do("click", target=f"#tab-{tab}")
    with sender(server.url) as load:
        page.wait("inspector.changes > 100")
        found = page.look(FRAMES.replace("SECONDS", str(SECONDS)))
        load.wait()
    page.close()
    return found


def main() -> None:
    rows = []
    with Server.serving() as server, Node("browser.mjs", CHROMIUM) as browser:
        fill(server)
        for tab in TABS:
            found = measured(browser, server, tab)
            names = ("changes", "fps", "p99", "worst")
            rows.append(
                [tab, *(short(found[name]) for name in names), f"{found['kept']:,}", short(found["heap"] / 1e6)]
            )
    print(f"{RATE} changes per second to a list of {TASKS} tasks, for {SECONDS} s.\n")
    heads = [
        "tab",
        "changes per second",
        "frames per second",
        "p99, ms",
        "longest frame, ms",
        "changes kept",
        "heap, MB",
    ]
    table(heads, rows)


def fill(server: Server) -> None:
    program = f"""
import json, urllib.request
actions = [{{"type": "board/task_added", "payload": {{"id": str(n), "title": f"Task {{n}}"}}}} for n in range({TASKS})]
body, headers = json.dumps({{"actions": actions}}).encode(), {{"Content-Type": "application/json"}}
urllib.request.urlopen(urllib.request.Request("{server.url}/dispatch", body, headers)).read()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
