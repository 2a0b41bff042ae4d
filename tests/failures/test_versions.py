"""Nodes with two versions of an application share a journal under load, during a deployment and on the way back."""

from __future__ import annotations

import asyncio

import pytest

from tests.support import ROOT, Server
from tests.support.callers import Callers, calling
from tests.support.cluster import cluster, judged

LATER = f"{ROOT / 'tests/apps/tallied_later.py'}:app"
pytestmark = pytest.mark.timeout(300)  # a busy machine takes long


async def deploy(callers: Callers, number: int, version: str) -> None:
    """Stops a node, and starts it with another version of its code."""
    node: Server = callers.nodes[number]
    await asyncio.to_thread(node.stop)
    node.env["VERSION"] = version
    await asyncio.to_thread(node.start)
    await callers.more(5, number)


@pytest.mark.parametrize(
    "journal",
    ["postgresql", *(pytest.param(each, marks=pytest.mark.soak) for each in ("redis", "sqlite"))],
    indirect=True,
)
@pytest.mark.long
async def test_two_versions_of_an_application_run_side_by_side(journal: str) -> None:
    with cluster(journal, (LATER,) * 3, VERSION="1") as nodes:
        async with calling(nodes, writers=3, readers_of_each=1) as callers:
            await callers.more(30)
            for version in ("1 and more", "1"):  # the shape stays: all go on, and there is a way back
                await deploy(callers, 0, version)
                for number in range(3):
                    await callers.more(10, number)
            for version in ("2", "3"):  # the shape changes: old code may not write any more, and says so
                await deploy(callers, 0, version)
                for number in (1, 2):
                    await callers.refused(number)
                await callers.more(20, 0)
                for number in (1, 2):
                    await deploy(callers, number, version)
            assert await judged(callers, journal) == []
        reasons = {reason for history in callers.evidence.histories for reason in history.reasons}
        assert reasons <= {"start", "lagged"}, "every reader resumed, unless it was too far behind"
        print(callers.evidence.figures())
