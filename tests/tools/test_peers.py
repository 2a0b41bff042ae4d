"""The benchmark's servers do the same job: the state put together from what each sends is what the work makes."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import jsonpatch
import pytest

from tests.benchmarks.peers import main, rig, workload
from tests.benchmarks.peers.rig import Load, Running
from tests.benchmarks.peers.servers import ALL
from tests.support import eventually

CHANGES = 100
ITEMS = 5

pytestmark = pytest.mark.skipif(main.lacking() is not None, reason=f"needs {main.lacking()}")


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    rig.build()


def events(running: Running) -> Iterator[dict[str, Any]]:
    """The data of every event, as an HTTP client that knows nothing of us reads it."""
    url = f"http://127.0.0.1:{running.port}{running.server.path}"
    request = urllib.request.Request(url, headers={"Accept": "text/event-stream"})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        for line in response:
            if line.startswith(b"data:") and len(line) > len(b"data: \n"):
                yield json.loads(line.removeprefix(b"data:"))


def expected() -> Any:
    state = workload.initial(ITEMS)
    for seq in range(1, CHANGES + 1):
        state = workload.after(state, seq)
    return state


@pytest.mark.parametrize("name", ALL)
def test_a_server_brings_every_change_once_and_the_whole_state(name: str) -> None:
    if missing := ALL[name].missing():
        pytest.skip(f"needs {missing}: .ci/setup bench")
    with Running(ALL[name], ITEMS=ITEMS) as running:
        stream = events(running)
        state = next(stream)["slices"][workload.SLICE]
        assert state == workload.initial(ITEMS)
        running.control(1_000, CHANGES)
        for seq in range(1, CHANGES + 1):
            update = next(stream)
            assert update["cause"]["payload"]["seq"] == seq
            assert update["slice"] == workload.SLICE
            state = jsonpatch.apply_patch(state, update["patches"])
        assert state == expected()
        stream.close()


async def all_events(running: Running, load: Load, readers: int) -> None:
    """Has changes made, and waits until the load has counted each of them at so many readers; nothing else may come."""
    running.control(1_000, CHANGES)
    got = 0

    def all_came() -> bool:
        nonlocal got
        said = load.so_far()
        assert not any(said[name] for name in ("gaps", "repeats", "unstamped", "lost", "failed")), said
        got += said["events"]
        return got >= readers * CHANGES

    await eventually(all_came)
    assert got == readers * CHANGES


@pytest.mark.parametrize("name", ["floor", "statestream", "statestream-transport"])
async def test_the_load_counts_every_event_of_every_reader_that_reads(name: str) -> None:
    with Running(ALL[name], ITEMS=ITEMS) as running, Load(running, 30, frozen=10) as load:
        assert load.joined()["joined"] == 30
        await all_events(running, load, readers=20)


async def test_a_reader_with_a_stream_of_its_own_gets_that_only() -> None:
    chats = f"{ALL['statestream'].path}&slices=chat/%d"
    with Running(ALL["statestream"], CHATS=2) as running, Load(running, 3, path=chats) as load:
        load.joined()
        await all_events(running, load, readers=1)
