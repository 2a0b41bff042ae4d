"""Tabs that show the changes of their actions at once, on the application `tests/apps/paged.py`.

`add(id)` dispatches an action that adds a task with that id, and returns the titles of all tasks that are shown.
"""

from __future__ import annotations

from typing import Any

import aiohttp

from tests.support.api import get_state
from tests.support.browser import Tab
from tests.support.polling import eventually
from tests.support.server import Server

CONNECT = """
Promise.all([import("/js/statestream.js"), import("/js/optimistic.js")]).then(([{ connect }, { optimistic }]) => {
  const request = (globalThis.request = globalThis.fetch);
  Object.assign(globalThis, { seen_titles: [], sent: 0, done: [], blocked: BLOCKED });
  globalThis.fetch = (url, init) => ((sent += url.endsWith("/dispatch")), request(url, init));
  const lock = navigator.locks.request.bind(navigator.locks), open = indexedDB.open.bind(indexedDB), names = new Set();
  const until = ({ signal }) => () => new Promise((resolve) => signal.addEventListener("abort", resolve));
  indexedDB.open = (name, version) => (names.add(name), open(name, version));
  navigator.locks.request = (name, ...given) =>
    lock(name, ...(blocked && names.has(name) ? [given[0], until(given[0])] : given)); // it is to send, and does not
  const added = (board, task) => ({ ...board, tasks: [...board.tasks, { ...task, done: false }] });
  const counted = (board, { by = 1 }) => ({ ...board, count: board.count + by });
  const reducers = { "board/task_added": added, "board/counted": counted, "board/refused": counted };
  globalThis.client = connect("/", { slices: "board", identity: IDENTITY, optimistic: optimistic(reducers) });
  globalThis.titles = () => client.state.board?.tasks.map(({ title }) => title).join("") ?? "";
  client.select((state) => state.board?.tasks, () => seen_titles.push(titles()));
  globalThis.add = (id) => {
    const task = { id, title: id }, over = (outcome) => done.push(outcome);
    client.dispatch("board/task_added", task).then(over, ({ code }) => over(code));
    return titles();
  };
})
"""


def follow(tab: Tab, *, blocked: bool = False, identity: str = "'ada'") -> None:
    """Connects. With `blocked`, it is the tab that is to send, and stands still."""
    tab.look(CONNECT.replace("BLOCKED", str(blocked).lower()).replace("IDENTITY", identity))
    tab.wait("globalThis.client?.health.phase === 'live'")


async def titles(http: aiohttp.ClientSession, server: Server) -> str:
    """What the server has."""
    state: Any = await get_state(http, server.url)
    return "".join(task["title"] for task in state["slices"]["board"]["tasks"])


async def titles_come_to(http: aiohttp.ClientSession, server: Server, wanted: str) -> None:
    async def has_them() -> bool:
        return await titles(http, server) == wanted

    await eventually(has_them, seconds=15)
