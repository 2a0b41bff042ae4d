"""What the log says while the database of a journal is away: when that begins and when it is over, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import aiohttp
import pytest

from tests.support import Server, dispatch, eventually
from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import DURABLE, RedisServer

TRIES = 10


@pytest.mark.parametrize("kind", ["postgresql", "redis"])
async def test_a_failure_is_one_line_and_its_end_is_another(kind: str, http: aiohttp.ClientSession) -> None:
    database: Any = PostgreSQL() if kind == "postgresql" else RedisServer(*DURABLE)
    with database, Server.serving(journal=database.url() if kind == "postgresql" else database.url) as server:
        assert (await dispatch(http, server.url, "board/counted"))[0] == 200
        database.kill()
        for _ in range(TRIES):
            assert (await dispatch(http, server.url, "board/counted"))[0] == 503
            async with http.get(f"{server.url}/health/ready") as response:
                assert response.status == 503
        await eventually(lambda: server.metric(http, 'trouble{cause="following"}'))
        database.start()

        async def healthy() -> bool:
            await dispatch(http, server.url, "board/counted")
            async with http.get(f"{server.url}/health/ready") as response:
                return bool((await response.json())["status"] == "healthy")

        await eventually(healthy)
        lines = server.stop().splitlines()
    said = Counter(line.partition(" seconds: ")[2] or line.partition(":")[0] for line in lines)
    assert set(said.values()) == {2}, said
    assert {"the journal cannot be written to", "changes that other processes write cannot be read"} <= set(said)
