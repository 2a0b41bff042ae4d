"""Checks of `GET /state` and `GET /history`: the same truth without a stream, now and before."""

from __future__ import annotations

from typing import Final

import orjson

from statestream.tools.conformance.check import Section, expect
from statestream.tools.conformance.subject import Subject, expect_problem, refusal
from statestream.tools.conformance.view import View, seq_of

STATES: Final = Section("GET /state, GET /history")
LINE: Final = {"position", "type", "slice", "from", "version", "cause", "timestamp"}


@STATES.check("The state has an ETag: 304 while the slices stay the same, another one when they do not.")
async def etag(subject: Subject) -> None:
    first = await subject.get("/state")
    expect(first.status == 200, f"expected the state, got {refusal(first)}")
    missing = {"position", "slices", "versions"} - set(first.json)
    expect(not missing, f"expected {', '.join(sorted(missing))} in the state, got none")
    tag = first.headers.get("ETag", "")
    expect(tag, "expected an ETag, got none")
    again = await subject.get("/state", headers={"If-None-Match": tag})
    expect(again.status == 304, f"expected 304 for the ETag of just now, got {again.status}")
    expect(not again.body, "expected 304 without a body, got one")
    await subject.act()
    after = await subject.get("/state", headers={"If-None-Match": tag})
    expect(after.status == 200, f"expected 200 for the ETag of before a change, got {after.status}")
    expect(after.headers.get("ETag") != tag, "expected another ETag after a change, got the same")


@STATES.check("With `at` it is the state as of that position; a position of another history is refused.")
async def state_of_the_past(subject: Subject) -> None:
    stood: list[View] = []
    for _ in range(4):
        await subject.act()
        stood.append(await subject.state())
    for view in stood:
        then = await subject.state({"at": str(view.position)})
        expect(then.same(view), f"expected the state as it was at {view.position}, got another")
        expect(then.position == view.position, f"expected the position {view.position}, got {then.position}")
    await _positions_are_checked(subject, "/state", "at")


@STATES.check("The history gives each change behind `after` as a line: what the stream says, and its position.")
async def history(subject: Subject) -> None:
    start = await subject.state()
    answers = await subject.write(6)
    query = {"after": str(start.position), "cause": "full"}
    answer = await subject.get("/history", query)
    expect(answer.status == 200, f"expected the history, got {refusal(answer)}")
    expect(answer.kind() == "application/x-ndjson", f"expected application/x-ndjson, got {answer.kind()}")
    try:
        lines = [orjson.loads(line) for line in answer.body.splitlines()]
    except orjson.JSONDecodeError:
        lines = [{}]
    expect(all(set(line) > LINE for line in lines), f"expected {', '.join(sorted(LINE))} and content in every line")
    wanted = [change for one in answers for change in subject.followed(one)]
    got = [(line["slice"], line["version"]) for line in lines]
    expect(got == wanted, f"expected the changes {wanted}, got {got}")
    expect(all("payload" in line["cause"] for line in lines), "expected payloads with cause=full, got none")
    expect(
        lines[-1]["position"] == answers[-1]["position"], "expected the position of the last answer in the last line"
    )
    few = await subject.get("/history", query | {"limit": "2"})
    count = len(few.body.splitlines())
    expect(count == 2, f"expected 2 lines with limit=2, got {count}")
    await _positions_are_checked(subject, "/history", "after")


@STATES.check("Names that are unknown or cannot be read are refused.")
async def state_refusals(subject: Subject) -> None:
    for path in ("/state", "/history"):
        unknown = await subject.get(path, {"slices": "no_such_slice_of_this_server"})
        expect_problem(unknown, 404, "unknown_slice", f"an unknown slice of {path}")
        malformed = await subject.get(path, {"slices": "Not a name"})
        expect_problem(malformed, 400, "malformed", f"a name that is none in {path}")


async def _positions_are_checked(subject: Subject, path: str, parameter: str) -> None:
    now = str((await subject.state()).position)
    cases = {
        f"{seq_of(now)}.zzother": (410, "position_forked"),
        f"{seq_of(now) + 1_000_000}.zzother": (410, "position_forked"),
        "nonsense": (400, "malformed"),
    }
    for position, (status, code) in cases.items():
        answer = await subject.get(path, {parameter: position})
        expect_problem(answer, status, code, f"{path}?{parameter}={position}")
