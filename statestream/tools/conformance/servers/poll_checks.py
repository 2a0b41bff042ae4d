"""Checks of long polling: answers that end, which together are the stream.

Invariants: nothing but the URL may decide what an answer is.
"""

from __future__ import annotations

from typing import Final

from statestream.tools.conformance.servers.server_check import Section
from statestream.tools.conformance.servers.server_under_test import ResponseUnderTest, ServerUnderTest, expect_problem
from statestream.tools.conformance.strict_replica import ParsedFrame, StrictReplica
from statestream.tools.conformance.violation import expect

POLLS: Final = Section("GET /stream/state: long polling")
LONG_POLL: Final = {"live": "long-poll"}


@POLLS.check("The answers to long polls contain what a stream would, once, and end after whole frames.")
async def poll_again_and_again(server: ServerUnderTest) -> None:
    replica = StrictReplica()
    events = await _apply(replica, await server.get("stream/state", LONG_POLL))
    expect(events == ["state.initial"], f"expected the state and nothing else, got {', '.join(events)}")
    for _ in range(5):
        await server.write(3)
        response = await server.get("stream/state", {**LONG_POLL, "after": str(replica.position)})
        await _apply(replica, response)
        expect(replica.same(await server.state()), "expected the answer to contain everything that was missed")


@POLLS.check("A long poll takes its cursor from `after` alone, and refuses what cannot be polled.")
async def poll_by_url(server: ServerUnderTest) -> None:
    before = await server.state()
    await server.act()
    newest = str((await server.state()).position)
    query = {**LONG_POLL, "after": str(before.position)}
    await _apply(before, await server.get("stream/state", query, headers={"Last-Event-ID": newest}))
    expect(before.same(await server.state()), "expected the changes after `after`, whatever Last-Event-ID says")
    for refused in ({"live": "nonsense"}, {**LONG_POLL, "after": "earliest"}):
        expect_problem(await server.get("stream/state", refused), 400, "malformed", f"the query {refused}")


async def _apply(replica: StrictReplica, response: ResponseUnderTest) -> list[str]:
    """Applies the frames of an answer, and returns what they are."""
    expect(response.status == 200, f"expected the answer to a long poll, got {response.shown()}")
    kind = response.kind()
    expect(kind == "text/event-stream", f"expected text/event-stream for a long poll, got {kind or 'no type'}")
    *blocks, rest = response.body.split(b"\n\n")
    expect(not rest, "expected the answer to end after a whole frame")
    events = []
    for frame in map(ParsedFrame.parse, blocks):
        if frame is not None:
            replica.apply(frame)
            events.append(frame.event)
    return events
