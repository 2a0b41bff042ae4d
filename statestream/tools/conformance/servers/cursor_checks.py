"""Checks of resuming: cursors are honoured exactly, or refused in the stream with a reason.

Invariants: a cursor is used as the server sent it; only its form is known here.
"""

from __future__ import annotations

import asyncio
from typing import Final

from statestream.tools.conformance.servers.server_check import Section
from statestream.tools.conformance.servers.server_under_test import ServerUnderTest
from statestream.tools.conformance.servers.stream_under_test import StreamUnderTest
from statestream.tools.conformance.strict_replica import StrictReplica, seq_of
from statestream.tools.conformance.violation import expect

CURSORS: Final = Section("GET /stream/state: cursors")
UNREADABLE: Final = ("x", "1", "1.", ".a", "-1.a", "+1.a", "01.a", "1e3.a", "1.a.b", "1.a b", "1,a", "9" * 40 + ".a")
CUTS: Final = (1, 40, 97, 150, 260, 333, 480, 700, 1_111, 2_000, 3_500)


@CURSORS.check("A stream resumes after any frame, and exactly what was missed follows, once.")
async def resume_at_every_frame(server: ServerUnderTest) -> None:
    replicas: list[StrictReplica] = []
    async with server.stream() as stream:
        await stream.first()
        replicas.append(stream.replica.copy())
        for _ in range(12):
            answer = await server.act()
            while stream.replica.position is None or seq_of(stream.replica.position) < seq_of(answer["position"]):
                await stream.next()
                replicas.append(stream.replica.copy())
        end = stream.replica
    for number, replica in enumerate(replicas):
        cursor = str(replica.position)
        by_query = {"after": cursor} if number % 2 else None
        async with server.stream(replica, query=by_query) as again:
            await _resumed(again, cursor)
            await again.until(str(end.position))
            expect(again.replica.same(end), f"expected the missed changes after {cursor} to lead to the state")


@CURSORS.check(
    "A client that loses the connection anywhere, even inside a frame and during writes, misses and repeats nothing."
)
async def cut_inside_a_frame(server: ServerUnderTest) -> None:
    writing = asyncio.create_task(server.write(120, at_once=4))
    replica = StrictReplica()
    try:
        for round_ in range(3 * len(CUTS)):
            async with server.stream(replica) as stream:
                await stream.some(CUTS[round_ % len(CUTS)])
        answers = await writing
    finally:
        await asyncio.gather(writing, return_exceptions=True)
    async with server.stream(replica) as stream:
        await stream.next()
        await stream.until(answers[-1]["position"])
    odd = sorted(set(replica.reasons) - {"start", "lagged"})
    expect(not odd, f"expected cursors of this server to be honoured, got state.initial for {odd}")
    expect(replica.same(await server.state()), "expected a client that was cut off to have the state of GET /state")


@CURSORS.check("`Last-Event-ID` takes precedence over `after`.")
async def header_wins(server: ServerUnderTest) -> None:
    replica = await server.state()
    cursor = str(replica.position)
    async with server.stream(replica, header=cursor, query={"after": "1.other"}) as stream:
        await _resumed(stream, cursor)


@CURSORS.check("A cursor that is not a position is answered in the stream with the state, and the reason `invalid`.")
async def unreadable_cursor(server: ServerUnderTest) -> None:
    for cursor in UNREADABLE:
        await _refused(server, cursor, "invalid")


@CURSORS.check("A cursor of another history is answered in the stream with the state, and the reason `forked`.")
async def forked_cursor(server: ServerUnderTest) -> None:
    position = str((await server.act())["position"])
    seq, tag = seq_of(position), position.partition(".")[2]
    for cursor in (f"{seq}.{_other(tag)}", f"{seq + 1_000_000}.{tag}"):
        await _refused(server, cursor, "forked")


async def _refused(server: ServerUnderTest, cursor: str, reason: str) -> None:
    """Expects the stream to begin with the state for that reason, and to continue from there."""
    async with server.stream(header=cursor) as stream:
        frame = await stream.first()
        shown = cursor if len(cursor) < 20 else f"{cursor[:20]}…"
        got = frame.data["reason"]
        expect(got == reason, f"expected the reason {reason} for the cursor {shown!r}, got {got!r}")
        await stream.until((await server.act())["position"])


async def _resumed(stream: StreamUnderTest, cursor: str) -> None:
    frame = await stream.first("state.resumed")
    at = frame.data["position"]
    expect(at == cursor, f"expected to resume at {cursor}, got {at}")


def _other(tag: str) -> str:
    return tag[:-1] + ("a" if tag[-1] != "a" else "b")
