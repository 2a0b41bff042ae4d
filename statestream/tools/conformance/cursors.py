"""Checks of resuming: cursors are honoured exactly, or refused in the stream with a reason."""

from __future__ import annotations

import asyncio
from typing import Final

from statestream.tools.conformance.check import Section, expect
from statestream.tools.conformance.subject import Subject, Watch
from statestream.tools.conformance.view import View, seq_of

CURSORS: Final = Section("GET /stream/state: cursors")
UNREADABLE: Final = ("x", "1", "1.", ".a", "-1.a", "+1.a", "01.a", "1e3.a", "1.a.b", "1.a b", "1,a", "9" * 40 + ".a")
CUTS: Final = (1, 40, 97, 150, 260, 333, 480, 700, 1_111, 2_000, 3_500)


@CURSORS.check("After any frame the cursor resumes there: exactly what was missed follows, once.")
async def resume_at_every_frame(subject: Subject) -> None:
    stood: list[View] = []
    async with subject.watch() as watch:
        await watch.first()
        stood.append(watch.view.copy())
        for _ in range(12):
            answer = await subject.act()
            while watch.view.position is None or seq_of(watch.view.position) < seq_of(answer["position"]):
                await watch.next()
                stood.append(watch.view.copy())
        end = watch.view
    for number, view in enumerate(stood):
        cursor = str(view.position)
        by_query = {"after": cursor} if number % 2 else None
        async with subject.watch(view, query=by_query) as again:
            await _resumed(again, cursor)
            await again.until(str(end.position))
            expect(again.view.same(end), f"expected the missed changes behind {cursor} to lead to the state")


@CURSORS.check(
    "Cut anywhere, also inside a frame and under writes, a reader that comes back misses and repeats nothing."
)
async def cut_inside_a_frame(subject: Subject) -> None:
    writing = asyncio.create_task(subject.write(120, at_once=4))
    view = View()
    try:
        for turn in range(3 * len(CUTS)):
            async with subject.watch(view) as watch:
                await watch.some(CUTS[turn % len(CUTS)])
        answers = await writing
    finally:
        await asyncio.gather(writing, return_exceptions=True)
    async with subject.watch(view) as watch:
        await watch.next()
        await watch.until(answers[-1]["position"])
    odd = sorted(set(view.reasons) - {"start", "lagged"})
    expect(not odd, f"expected cursors of this server to be honoured, got state.initial for {odd}")
    expect(view.same(await subject.state()), "expected a reader that was cut to hold what GET /state says")


@CURSORS.check("Last-Event-ID wins over `after`, which serves who cannot set a header.")
async def header_wins(subject: Subject) -> None:
    view = await subject.state()
    cursor = str(view.position)
    async with subject.watch(view, header=cursor, query={"after": "1.other"}) as watch:
        await _resumed(watch, cursor)


@CURSORS.check("A cursor that cannot be read is answered with the state, in the stream: reason `invalid`.")
async def unreadable_cursor(subject: Subject) -> None:
    for cursor in UNREADABLE:
        await _refused(subject, cursor, "invalid")


@CURSORS.check("A cursor of another history is answered with the state, in the stream: reason `forked`.")
async def forked_cursor(subject: Subject) -> None:
    position = str((await subject.act())["position"])
    seq, tag = seq_of(position), position.partition(".")[2]
    for cursor in (f"{seq}.{_other(tag)}", f"{seq + 1_000_000}.{tag}"):
        await _refused(subject, cursor, "forked")


async def _refused(subject: Subject, cursor: str, reason: str) -> None:
    """The stream begins with the state for that reason, and goes on from there."""
    async with subject.watch(header=cursor) as watch:
        frame = await watch.first()
        shown = cursor if len(cursor) < 20 else f"{cursor[:20]}…"
        got = frame.data["reason"]
        expect(got == reason, f"expected the reason {reason} for the cursor {shown!r}, got {got!r}")
        await watch.until((await subject.act())["position"])


async def _resumed(watch: Watch, cursor: str) -> None:
    frame = await watch.first("state.resumed")
    at = frame.data["position"]
    expect(at == cursor, f"expected to resume at {cursor}, got {at}")


def _other(tag: str) -> str:
    return tag[:-1] + ("a" if tag[-1] != "a" else "b")
