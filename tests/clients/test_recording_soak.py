"""Twenty recorders over a bad network, a server that is killed, writers that go on: every recording is true.

A recording is checked when it ends: replayed, it holds the server's state as of its last position, and as of
positions in between, for the slices that it asked for. SOAK_SECONDS says how long (1,200).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import statestream
from statestream.client.recording.recording import Recording
from tests.support import Server, dispatch
from tests.support.cutting import Proxy

Http = aiohttp.ClientSession
SELECTIONS = (None, ["*"], ["board"], ["counter", "room/*"], ["board", "room/1", "room/2"])
CLIENTS, WRITERS = 20, 4


class Soak:
    """What goes on at once, and what was counted."""

    def __init__(self, server: Server, proxy: Proxy, http: Http, directory: Path, seed: int) -> None:
        self.server, self.proxy, self.http, self.directory = server, proxy, http, directory
        self.chance = random.Random(seed)
        self.over = asyncio.Event()
        self.up = asyncio.Event()
        self.did: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.up.set()

    async def rest(self, seconds: float) -> None:
        """So long, or until all is over: it is chaos' own clock, and stands for no event."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.over.wait(), seconds)

    async def write(self, n: int) -> None:
        while not self.over.is_set():
            await self.up.wait()
            key, what = str(self.chance.randrange(4)), self.chance.random()
            try:
                if what < 0.02:
                    await dispatch(self.http, self.server.url, "board/cleared")
                elif what < 0.06:
                    await dispatch(self.http, self.server.url, "room/closed", key=key)
                elif what < 0.4:
                    await dispatch(self.http, self.server.url, "room/joined", {"name": "x" * 20}, key=key)
                elif what < 0.8:
                    task = {"id": f"{n}-{self.did['actions']}", "title": "é" * self.chance.randrange(1, 60)}
                    await dispatch(self.http, self.server.url, "board/task_added", task)
                else:
                    await dispatch(self.http, self.server.url, "board/counted")
                self.did["actions"] += 1
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.01)  # the server is being started again: nothing tells a client when
            await self.rest(self.chance.choice([0.01, 0.01, 0.3]))  # some are caught up with, some are too far ahead

    async def cut(self) -> None:
        while not self.over.is_set():
            await self.rest(self.chance.uniform(0.02, 0.4))
            self.proxy.cut(self.chance)

    async def kill(self) -> None:
        while not self.over.is_set():
            await self.rest(self.chance.uniform(5, 20))
            self.up.clear()
            self.server.kill()
            await asyncio.to_thread(self.server.start)
            self.up.set()
            self.did["kills"] += 1

    async def record(self, n: int) -> None:
        """One client: streams one after the other, each with recordings that begin and end when they like."""
        number = 0
        while not self.over.is_set():
            number += 1
            async with statestream.connect(self.proxy.url, slices=self.chance.choice(SELECTIONS)) as stream:
                stream._connection.retry_ms = 20
                paths = [self.directory / f"{n}-{number}-{at}.jsonl" for at in range(self.chance.choice([1, 1, 2]))]
                for path in paths:
                    recorder = stream.record(path)
                    await self.rest(self.chance.uniform(1, 30))
                    if self.chance.random() < 0.5:
                        recorder.close()
            for path in paths:
                await self.check(path)

    async def check(self, path: Path) -> None:
        frames = list(Recording(path))
        self.events.update(frame.event.event for frame in frames[1:])
        again = [json.loads(frame.event.data) for frame in frames[1:] if frame.event.event == "state.initial"]
        assert {data["reason"] for data in again} <= {"lagged"}, "resumed, or too far behind to be worth it: no gap"
        positions = sorted({frame.event.last_id for frame in frames})
        some = self.chance.sample(positions, min(2, len(positions)))
        for until in (None, *some):
            replay = statestream.client.replay(path, speed=math.inf, until=until)
            async for _ in replay:
                pass
            assert replay.position is not None, path
            truth = await self.at(replay.position, replay.recording.slices)
            assert (replay.state, replay.versions) == (truth["slices"], truth["versions"]), (path, until)
            self.did["states compared"] += 1
        self.did["recordings"] += 1
        self.did["frames"] += len(frames)
        self.did["bytes"] += path.stat().st_size
        path.unlink()

    async def at(self, position: str, slices: Any) -> Any:
        query = {"at": position} | ({} if slices is None else {"slices": ",".join(slices)})
        while True:
            await self.up.wait()
            try:
                async with self.http.get(f"{self.server.url}/state", params=query) as response:
                    assert response.status == 200, await response.text()
                    return await response.json()
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.01)  # it is being killed just now


@pytest.mark.soak
async def test_recordings_over_cuts_and_crashes_are_true(tmp_path: Path, http: Http) -> None:
    seconds = float(os.environ.get("SOAK_SECONDS", "1200"))
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    with Server.serving(journal=f"sqlite:///{tmp_path / 'j.db'}") as server:
        async with Proxy(server.port) as proxy:
            soak = Soak(server, proxy, http, tmp_path, seed)
            until = time.monotonic() + seconds
            tasks = [asyncio.create_task(soak.record(n)) for n in range(CLIENTS)]
            tasks += [asyncio.create_task(soak.write(n)) for n in range(WRITERS)]
            tasks += [asyncio.create_task(soak.cut()), asyncio.create_task(soak.kill())]
            await asyncio.wait(tasks, timeout=until - time.monotonic(), return_when=asyncio.FIRST_EXCEPTION)
            soak.over.set()
            await asyncio.gather(*tasks)
        assert soak.did["recordings"] >= CLIENTS
        assert proxy.cuts >= seconds, "the network was as bad as it was meant to be"
        assert soak.did["kills"] >= seconds // 30
        print(f"{seconds:g} s: {dict(soak.did)}, {proxy.cuts} cuts, {dict(soak.events)}")
