"""kill -9 at any moment loses nothing that was acknowledged, and nothing happens twice."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
from pathlib import Path

import aiohttp
import pytest

from tests.support import PlainClient, Server, dispatch, get_state

Http = aiohttp.ClientSession


async def writer(http: Http, server: Server, name: str, acknowledged: dict[str, str], over: asyncio.Event) -> None:
    """Adds tasks one after the other, each until it is acknowledged, over crashes and all."""
    number = 0
    while not over.is_set():
        id = f"{name}-{number}"
        try:
            status, body = await dispatch(http, server.url, "board/task_added", {"id": id, "title": "t"}, id=id)
        except (aiohttp.ClientError, OSError):
            await asyncio.sleep(0.01)  # the server is being started again: nothing tells a client when
            continue
        assert status == 200, body
        acknowledged[id] = body["position"]
        number += 1


async def kill_under_load(tmp_path: Path, http: Http, kills: int) -> str:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    acknowledged: dict[str, str] = {}
    over = asyncio.Event()
    with Server.serving(journal=f"sqlite:///{tmp_path / 'j.db'}") as server:
        reader = PlainClient(server.port).connect()
        next(reader.frames())
        writers = [asyncio.create_task(writer(http, server, f"w{n}", acknowledged, over)) for n in range(8)]
        for _ in range(kills):
            enough = len(acknowledged) + chance.randrange(20, 200)
            while len(acknowledged) < enough and not any(task.done() for task in writers):
                await asyncio.sleep(0.005)
            server.kill()
            server.start()
            reader.connect()
        over.set()
        await asyncio.gather(*writers)
        truth = await get_state(http, server.url)
        reader.read_to(truth["position"])
        reader.close()
    present = [task["id"] for task in truth["slices"]["board"]["tasks"]]
    assert set(acknowledged) <= set(present), f"lost: {set(acknowledged) - set(present)}"
    assert len(present) == len(set(present)), "something took effect twice"
    assert reader.state == truth["slices"]
    assert set(reader.reasons) <= {"start", "lagged"}, "resumed over every crash, or too far behind to be worth it"
    return f"{kills} kills, {len(acknowledged)} acknowledged, 0 lost, 0 twice"


@pytest.mark.slow
async def test_kill_9_loses_nothing_acknowledged(tmp_path: Path, http: Http) -> None:
    print(await kill_under_load(tmp_path, http, kills=10))


@pytest.mark.soak
async def test_kill_9_a_hundred_times(tmp_path: Path, http: Http) -> None:
    print(await kill_under_load(tmp_path, http, kills=100))


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace shows the system calls; it exists on Linux only")
@pytest.mark.slow
async def test_every_answer_comes_after_its_flush(tmp_path: Path, http: Http) -> None:
    """In the order of the system calls: a flush of the log has returned between two answers, before each."""
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,write,writev,sendto,sendmsg"
    prefix = ("strace", "-D", "-f", "-qq", "-s", "300", "-e", calls, "-e", "signal=none", "-o", str(trace))
    with Server.serving(journal=f"sqlite:///{tmp_path / 'j.db'}", prefix=prefix) as server:
        for n in range(20):
            status, _ = await dispatch(
                http, server.url, "board/task_added", {"id": str(n), "title": "t"}, id=f"flush-{n}"
            )
            assert status == 200
    flushed, answers = False, 0
    for line in trace.read_text(errors="replace").splitlines():
        if re.search(r"f(data)?sync(\(\d+\)| resumed>\)).*= 0", line):
            flushed = True
        elif re.search(r'\\"id\\":\\"flush-\d+\\",\\"position\\"', line):
            assert flushed, f"answered before the flush: {line}"
            flushed, answers = False, answers + 1
    assert answers == 20
