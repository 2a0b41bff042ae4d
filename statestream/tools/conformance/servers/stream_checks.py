"""Checks of `GET /stream/state`: how it opens, what it contains, in which order, and that it stays alive.

Invariants: independent of each other and of the order in which they run; the same holds for the other checks.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from statestream.tools.conformance.servers.server_check import Section
from statestream.tools.conformance.servers.server_under_test import ServerUnderTest, expect_problem
from statestream.tools.conformance.servers.stream_under_test import StreamUnderTest
from statestream.tools.conformance.strict_replica import seq_of
from statestream.tools.conformance.violation import expect

STREAM: Final = Section("GET /stream/state")
HEADERS: Final = {"X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
LONGEST_HEARTBEAT_MS: Final = 120_000
SLACK_SECONDS: Final = 1.0
JOINERS: Final = 12


@STREAM.check("The response is an event stream that nothing on the way stores, transforms or buffers.")
async def headers(server: ServerUnderTest) -> None:
    async with server.stream() as stream:
        got = stream.response.headers
        kind = got.get("Content-Type", "").replace(" ", "").lower()
        expect(kind == "text/event-stream;charset=utf-8", f"expected text/event-stream; charset=utf-8, got {kind}")
        control = {word.strip() for word in got.get("Cache-Control", "").split(",")}
        expect({"no-store", "no-transform"} <= control, f"expected no-store, no-transform, got {sorted(control)}")
        for name, value in HEADERS.items():
            expect(got.get(name) == value, f"expected {name}: {value}, got {got.get(name)}")
        coding = got.get("Content-Encoding", "identity")
        expect(coding == "identity", f"expected a stream that is not compressed, got Content-Encoding: {coding}")


@STREAM.check(
    "The first frame contains the whole state with its position as the id, a version for each slice and a retry."
)
async def first_frame(server: ServerUnderTest) -> None:
    async with server.stream() as stream:
        frame = await stream.first()
        expect(frame.data["reason"] == "start", f"expected the reason start, got {frame.data['reason']!r}")
        expect(frame.retry is not None, "expected a retry in the first frame, got none")
        heartbeat = frame.data["heartbeat"]
        expect(type(heartbeat) is int and heartbeat > 0, f"expected the heartbeat in ms, got {heartbeat!r}")
        expect(stream.replica.same(await server.state()), "expected the state of GET /state in the first frame")


@STREAM.check(
    "A change arrives with the version and the position of the answer, with its cause, and its patches apply."
)
async def updates(server: ServerUnderTest) -> None:
    async with server.stream() as brief, server.stream(query={"cause": "full"}) as full:
        await brief.first()
        await full.first()
        for _ in range(3):
            action = server.action()
            answer = (await server.dispatch(action)).json
            for stream, payload in ((brief, None), (full, action["payload"])):
                await stream.until(answer["position"])
                cause = stream.frames[-1].data.get("cause", {})
                got = (cause.get("type"), cause.get("id"), cause.get("payload"))
                wanted = (action["type"], action["id"], payload)
                expect(got == wanted, f"expected the cause (type, id, payload) {wanted}, got {got}")
                held = {name: stream.replica.versions.get(name) for name, _ in server.followed(answer)}
                expect(
                    held == dict(server.followed(answer)),
                    f"expected the versions of the answer {server.followed(answer)}, got {held}",
                )
        state = await server.state()
        expect(
            brief.replica.same(state) and full.replica.same(state),
            "expected the patches to lead to the values of GET /state",
        )


@STREAM.check("While many clients write, every change arrives once, in one order, the same for every subscriber.")
async def order(server: ServerUnderTest) -> None:
    async with server.stream() as one, server.stream() as other:
        await one.first()
        await other.first()
        answers = await server.write(60, at_once=12)
        wanted = [change for answer in answers for change in server.followed(answer)]
        for stream in (one, other):
            await stream.until(answers[-1]["position"])
            got = [
                (item["slice"], item["version"])
                for frame in stream.frames[1:]
                for item in frame.data.get("updates", [frame.data])
                if "version" in item
            ]
            singles = all(frame.event != "state.catchup" for frame in stream.frames)
            expect(got == wanted or not singles, f"expected the changes {_few(wanted)}, got {_few(got)}")
        expect(one.replica.same(other.replica), "expected two subscribers to have the same state, but they differ")
        expect(
            one.replica.same(await server.state()),
            "expected a subscriber to have the state of GET /state, but it differs",
        )


@STREAM.check(
    "A client that joins while others write receives a snapshot and its continuation, without a gap or a repeat."
)
async def joining(server: ServerUnderTest) -> None:
    writing = asyncio.create_task(server.write(80, at_once=8))
    async with AsyncExitStack() as stack:
        streams: list[StreamUnderTest] = []
        try:
            while not writing.done() and len(streams) < JOINERS:
                streams.append(await stack.enter_async_context(server.stream()))
                await streams[-1].first()
        finally:
            await asyncio.gather(writing, return_exceptions=True)
        for stream in streams:
            await stream.until(writing.result()[-1]["position"])
    state = await server.state()
    same = all(stream.replica.same(state) for stream in streams)
    expect(same, "expected all clients that joined to have the state of GET /state, but one differs")


@STREAM.check("A snapshot that begins after a dispatch was answered includes it.")
async def after_the_answer(server: ServerUnderTest) -> None:
    for _ in range(10):
        answer = await server.act()
        async with server.stream() as stream:
            await stream.first()
            for name, version in server.followed(answer):
                held = stream.replica.versions.get(name, 0)
                expect(held >= version, f"expected version {version} of {name}, which was in the answer, got {held}")


@STREAM.check(
    "With `after=earliest`, every change that is kept arrives on its own, and together they lead to the state."
)
async def earliest(server: ServerUnderTest) -> None:
    answers = await server.write(5)
    async with server.stream(query={"after": "earliest"}) as stream:
        frame = await stream.first()
        expect(frame.data["reason"] == "start", f"expected the reason start, got {frame.data['reason']!r}")
        kept = seq_of(frame.id) < seq_of(answers[0]["position"])
        expect(kept, f"expected to begin before the last {len(answers)} changes, got {frame.id}")
        await stream.until(answers[-1]["position"])
        events = {frame.event for frame in stream.frames[1:]}
        expect(events <= {"state.update", "heartbeat"}, f"expected only single updates, got {sorted(events)}")
        expect(stream.replica.same(await server.state()), "expected the changes to lead to the values of GET /state")


@STREAM.check("Unknown and malformed names are refused before the stream begins.")
async def stream_refusals(server: ServerUnderTest) -> None:
    unknown = await server.get("stream/state", {"slices": "no_such_slice_of_this_server"})
    expect_problem(unknown, 404, "unknown_slice", "an unknown slice")
    for query in ({"slices": "Not a name"}, {"cause": "nonsense"}):
        expect_problem(await server.get("stream/state", query), 400, "malformed", f"the query {query}")


@STREAM.check("A client of HTTP/1.0 receives the stream as well, without chunks.")
async def http_1_0(server: ServerUnderTest) -> None:
    async with server.stream(http_1_0=True) as stream:
        chunked = "Transfer-Encoding" in stream.response.headers
        expect(not chunked, "expected no Transfer-Encoding for HTTP/1.0, got one")
        await stream.first()
        await stream.until((await server.act())["position"])


@STREAM.check("No silence is longer than the heartbeat, and the id of a heartbeat is a valid cursor.")
async def heartbeat(server: ServerUnderTest) -> None:
    async with server.stream() as stream:
        promised = (await stream.first()).data["heartbeat"]
        short = promised <= LONGEST_HEARTBEAT_MS
        expect(short, f"expected a heartbeat of at most {LONGEST_HEARTBEAT_MS} ms, for browsers, got {promised} ms")
        for _ in range(2):
            frame = await stream.next(promised / 1000 + SLACK_SECONDS)
        expect(frame.event == "heartbeat", f"expected a heartbeat while nothing happens, got {frame.event}")
        replica = stream.replica
    async with server.stream(replica) as again:
        await again.first("state.resumed")


def _few(changes: list[tuple[str, int]]) -> str:
    shown = ", ".join(f"{name} {version}" for name, version in changes[:6])
    return f"{shown} … ({len(changes)} in all)"
