"""Checks of `GET /stream/state`: how it opens, what it brings, in which order, and that it stays alive."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

from statestream.tools.conformance.check import Section, expect
from statestream.tools.conformance.subject import Subject, Watch, expect_problem
from statestream.tools.conformance.view import seq_of

STREAM: Final = Section("GET /stream/state")
HEADERS: Final = {"X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
LONGEST_HEARTBEAT_MS: Final = 120_000
SLACK_SECONDS: Final = 1.0
JOINERS: Final = 12


@STREAM.check("The answer is an event stream that nobody on the way stores, transforms or buffers.")
async def headers(subject: Subject) -> None:
    async with subject.watch() as watch:
        got = watch.response.headers
        kind = got.get("Content-Type", "").replace(" ", "").lower()
        expect(kind == "text/event-stream;charset=utf-8", f"expected text/event-stream; charset=utf-8, got {kind}")
        control = {word.strip() for word in got.get("Cache-Control", "").split(",")}
        expect({"no-store", "no-transform"} <= control, f"expected no-store, no-transform, got {sorted(control)}")
        for name, value in HEADERS.items():
            expect(got.get(name) == value, f"expected {name}: {value}, got {got.get(name)}")


@STREAM.check("The first frame is the whole state with its position as id, a version for each slice, and a retry.")
async def first_frame(subject: Subject) -> None:
    async with subject.watch() as watch:
        frame = await watch.first()
        expect(frame.data["reason"] == "start", f"expected the reason start, got {frame.data['reason']!r}")
        expect(frame.retry is not None, "expected a retry in the first frame, got none")
        heartbeat = frame.data["heartbeat"]
        expect(type(heartbeat) is int and heartbeat > 0, f"expected the heartbeat in ms, got {heartbeat!r}")
        expect(watch.view.same(await subject.state()), "expected the state of GET /state in the first frame")


@STREAM.check("A change comes with the version and position of its answer, with its cause, and applies.")
async def updates(subject: Subject) -> None:
    async with subject.watch() as brief, subject.watch(query={"cause": "full"}) as full:
        await brief.first()
        await full.first()
        for _ in range(3):
            action = subject.action()
            answer = (await subject.dispatch(action)).json
            for watch, payload in ((brief, None), (full, action["payload"])):
                await watch.until(answer["position"])
                cause = watch.frames[-1].data.get("cause", {})
                said = (cause.get("type"), cause.get("id"), cause.get("payload"))
                wanted = (action["type"], action["id"], payload)
                expect(said == wanted, f"expected the cause (type, id, payload) {wanted}, got {said}")
                held = {name: watch.view.versions.get(name) for name, _ in subject.followed(answer)}
                expect(
                    held == dict(subject.followed(answer)),
                    f"expected the versions of the answer {subject.followed(answer)}, got {held}",
                )
        state = await subject.state()
        expect(brief.view.same(state) and full.view.same(state), "expected the patches to lead to GET /state's values")


@STREAM.check("Many writers at a time: every change comes once, in one order, the same for every reader.")
async def order(subject: Subject) -> None:
    async with subject.watch() as one, subject.watch() as other:
        await one.first()
        await other.first()
        answers = await subject.write(60, at_once=12)
        wanted = [change for answer in answers for change in subject.followed(answer)]
        for watch in (one, other):
            await watch.until(answers[-1]["position"])
            got = [
                (item["slice"], item["version"])
                for frame in watch.frames[1:]
                for item in frame.data.get("updates", [frame.data])
                if "version" in item
            ]
            singles = all(frame.event != "state.catchup" for frame in watch.frames)
            expect(got == wanted or not singles, f"expected the changes {_few(wanted)}, got {_few(got)}")
        expect(one.view.same(other.view), "expected two readers to hold the same, they do not")
        expect(one.view.same(await subject.state()), "expected a reader to hold what GET /state says, it does not")


@STREAM.check("Whoever joins while others write gets a snapshot and its continuation without a gap or a repeat.")
async def joining(subject: Subject) -> None:
    writing = asyncio.create_task(subject.write(80, at_once=8))
    async with AsyncExitStack() as stack:
        watches: list[Watch] = []
        try:
            while not writing.done() and len(watches) < JOINERS:
                watches.append(await stack.enter_async_context(subject.watch()))
                await watches[-1].first()
        finally:
            await asyncio.gather(writing, return_exceptions=True)
        for watch in watches:
            await watch.until(writing.result()[-1]["position"])
    state = await subject.state()
    same = all(watch.view.same(state) for watch in watches)
    expect(same, "expected all who joined to hold what GET /state says, one does not")


@STREAM.check("A snapshot that begins after a dispatch was answered includes it.")
async def after_the_answer(subject: Subject) -> None:
    for _ in range(10):
        answer = await subject.act()
        async with subject.watch() as watch:
            await watch.first()
            for name, version in subject.followed(answer):
                held = watch.view.versions.get(name, 0)
                expect(held >= version, f"expected version {version} of {name}, which was answered, got {held}")


@STREAM.check("With after=earliest every change that is kept comes by itself, and they lead to the state.")
async def earliest(subject: Subject) -> None:
    answers = await subject.write(5)
    async with subject.watch(query={"after": "earliest"}) as watch:
        frame = await watch.first()
        expect(frame.data["reason"] == "start", f"expected the reason start, got {frame.data['reason']!r}")
        kept = seq_of(frame.id) < seq_of(answers[0]["position"])
        expect(kept, f"expected to begin before the last {len(answers)} changes, got {frame.id}")
        await watch.until(answers[-1]["position"])
        events = {frame.event for frame in watch.frames[1:]}
        expect(events <= {"state.update", "heartbeat"}, f"expected single updates only, got {sorted(events)}")
        expect(watch.view.same(await subject.state()), "expected the changes to lead to GET /state's values")


@STREAM.check("Names that are unknown or cannot be read are refused before the stream begins.")
async def stream_refusals(subject: Subject) -> None:
    unknown = await subject.get("/stream/state", {"slices": "no_such_slice_of_this_server"})
    expect_problem(unknown, 404, "unknown_slice", "an unknown slice")
    for query in ({"slices": "Not a name"}, {"cause": "nonsense"}):
        expect_problem(await subject.get("/stream/state", query), 400, "malformed", f"the query {query}")


@STREAM.check("A client of HTTP/1.0 gets the stream too, not in chunks.")
async def http_1_0(subject: Subject) -> None:
    async with subject.watch(old=True) as watch:
        chunked = "Transfer-Encoding" in watch.response.headers
        expect(not chunked, "expected no Transfer-Encoding for HTTP/1.0, got one")
        await watch.first()
        await watch.until((await subject.act())["position"])


@STREAM.check("Nobody is left in silence for longer than the heartbeat, and its id can be resumed from.")
async def heartbeat(subject: Subject) -> None:
    async with subject.watch() as watch:
        promised = (await watch.first()).data["heartbeat"]
        short = promised <= LONGEST_HEARTBEAT_MS
        expect(short, f"expected a heartbeat of at most {LONGEST_HEARTBEAT_MS} ms, for browsers, got {promised} ms")
        for _ in range(2):
            frame = await watch.next(promised / 1000 + SLACK_SECONDS)
        expect(frame.event == "heartbeat", f"expected a heartbeat while nothing happens, got {frame.event}")
        view = watch.view
    async with subject.watch(view) as again:
        await again.first("state.resumed")


def _few(changes: list[tuple[str, int]]) -> str:
    shown = ", ".join(f"{name} {version}" for name, version in changes[:6])
    return f"{shown} … ({len(changes)} in all)"
