"""A few nodes on one journal, and what can happen to them.

Invariants: a node keeps its port, so that clients find it again. All of them have ended when the block has.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from statestream.core.change import START
from statestream.journal import from_url
from tests.support.callers import Callers
from tests.support.paths import ROOT
from tests.support.server import Server
from tests.support.verdict import Broken, Row, verdict

TALLIED = f"{ROOT / 'tests/apps/tallied.py'}:app"


@contextmanager
def cluster(
    journal: str | Sequence[str], apps: Sequence[str] = (TALLIED,) * 3, clocks: Path | None = None, **environment: str
) -> Iterator[Sequence[Server]]:
    """Running nodes, one of each application. In `clocks`, the file with the number of a node moves its clock.

    `journal` is the URL of all of them, or one for each.
    """
    urls = [journal] * len(apps) if isinstance(journal, str) else journal
    with ExitStack() as stack:
        servers = []
        for number, (app, url) in enumerate(zip(apps, urls, strict=True)):
            more = {} if clocks is None else {"AHEAD": str(clocks / str(number))}
            servers.append(Server.serving(app, env={"JOURNAL": url, **environment, **more}))
            stack.enter_context(servers[-1])
        yield servers


async def restart(node: Server) -> None:
    """kill -9, and a new process on the same port."""
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.start)


@asynccontextmanager
async def stopped(node: Server) -> AsyncIterator[None]:
    """SIGSTOP until the end of the block, as when a virtual machine is paused."""
    assert node.process
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.process.send_signal(signal.SIGCONT)


async def rows(url: str) -> list[Row]:
    """The whole history of a journal, which nobody else needs to have open."""
    journal = from_url(url)
    await journal.open()
    try:
        found: list[Row] = []
        after = START
        while (page := await journal.read(after)).until != after:
            found += map(_row, page.changes)
            after = page.until
        return found
    finally:
        await journal.close()


def _row(change: Any) -> Row:
    return Row(
        seq=change.version,
        tag=change.position.tag,
        slice=change.slice,
        from_version=change.from_version,
        kind=change.kind,
        content=change.patches if change.kind == "patches" else change.value,
        type=change.cause.type,
        id=change.cause.id,
    )


async def judged(callers: Callers, journal: str) -> list[Broken]:
    """Ends the writers, and returns what the evidence proves to be broken."""
    await callers.finish()
    await callers.end()
    return verdict(callers.evidence, await rows(journal))
