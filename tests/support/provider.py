"""A model provider in its own process. Ours is tests/support/upstream.py, which answers as a test scripts it.

`script` sets the answer to a question, `open_gate` lets an answer continue, and `asked` returns the recorded requests.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import aiohttp

from tests.support import ROOT

AIMOCK = ROOT / "tests/node/node_modules/@copilotkit/aimock/dist/cli.js"
FIXTURES = ROOT / "tests/node/fixtures/chat.json"
"""What aimock answers."""


def mock() -> Iterator[str]:
    """aimock: the APIs of the providers, as others have implemented them."""
    yield from started("node", str(AIMOCK), "-p", "0", "-f", str(FIXTURES), "--log-level", "info")


def started(*command: str) -> Iterator[str]:
    """A process that says `http://127.0.0.1:PORT` when it serves; its URL. Ended by its own handle."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    try:
        assert process.stdout
        line = next((line for line in process.stdout if "http://" in line), None)
        assert line, f"{command} did not start"
        yield f"http://{line.strip().rpartition('http://')[2]}"
    finally:
        process.terminate()
        process.communicate()


async def script(http: aiohttp.ClientSession, upstream: str, question: str, *steps: Any) -> str:
    """Tells the upstream what happens when it is asked that; gives the question."""
    async with http.post(f"{upstream}/scripts", json={"question": question, "steps": steps}) as response:
        assert response.status == 200
    return question


async def open_gate(http: aiohttp.ClientSession, upstream: str, name: str) -> None:
    async with http.post(f"{upstream}/gates/{name}") as response:
        assert response.status == 200


async def asked(http: aiohttp.ClientSession, upstream: str, question: str) -> Any:
    async with http.get(f"{upstream}/requests", params={"question": question}) as response:
        return await response.json()
