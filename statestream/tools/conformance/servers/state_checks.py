"""Checks of `GET /state` and `GET /history`: the same state without a stream, now and in the past.

Invariants: what is compared was received from the same server; no value is known in advance.
"""

from __future__ import annotations

from typing import Final

import orjson

from statestream.tools.conformance.servers.server_check import Section
from statestream.tools.conformance.servers.server_under_test import ServerUnderTest, expect_problem
from statestream.tools.conformance.strict_replica import StrictReplica, seq_of
from statestream.tools.conformance.violation import expect

STATES: Final = Section("GET /state, GET /history")
LINE: Final = {"position", "type", "slice", "from", "version", "cause", "timestamp"}


@STATES.check("The state has an ETag. The server answers 304 until a slice changes, and then has a new ETag.")
async def etag(server: ServerUnderTest) -> None:
    first = await server.get("state")
    expect(first.status == 200, f"expected the state, got {first.shown()}")
    missing = {"position", "slices", "versions"} - set(first.json)
    expect(not missing, f"expected {', '.join(sorted(missing))} in the state, got none")
    tag = first.headers.get("ETag", "")
    expect(tag, "expected an ETag, got none")
    again = await server.get("state", headers={"If-None-Match": tag})
    expect(again.status == 304, f"expected 304 for the current ETag, got {again.status}")
    expect(not again.body, "expected 304 without a body, got one")
    await server.act()
    after = await server.get("state", headers={"If-None-Match": tag})
    expect(after.status == 200, f"expected 200 for an ETag from before a change, got {after.status}")
    expect(after.headers.get("ETag") != tag, "expected another ETag after a change, got the same")


@STATES.check("`at` returns the state as of a position. A position of another history is refused.")
async def state_of_the_past(server: ServerUnderTest) -> None:
    replicas: list[StrictReplica] = []
    for _ in range(4):
        await server.act()
        replicas.append(await server.state())
    for replica in replicas:
        then = await server.state({"at": str(replica.position)})
        expect(then.same(replica), f"expected the state as it was at {replica.position}, got another state")
        expect(then.position == replica.position, f"expected the position {replica.position}, got {then.position}")
    await _positions_are_checked(server, "state", "at")


@STATES.check(
    "The history contains each change after `after` as a line, with the members of an update and its position."
)
async def history(server: ServerUnderTest) -> None:
    start = await server.state()
    answers = await server.write(6)
    query = {"after": str(start.position), "cause": "full"}
    answer = await server.get("history", query)
    expect(answer.status == 200, f"expected the history, got {answer.shown()}")
    expect(answer.kind() == "application/x-ndjson", f"expected application/x-ndjson, got {answer.kind()}")
    try:
        lines = [orjson.loads(line) for line in answer.body.splitlines()]
    except orjson.JSONDecodeError:
        lines = [{}]
    expect(all(set(line) > LINE for line in lines), f"expected {', '.join(sorted(LINE))} and content in every line")
    wanted = [change for one in answers for change in server.followed(one)]
    got = [(line["slice"], line["version"]) for line in lines]
    expect(got == wanted, f"expected the changes {wanted}, got {got}")
    expect(all("payload" in line["cause"] for line in lines), "expected payloads with cause=full, got none")
    expect(
        lines[-1]["position"] == answers[-1]["position"], "expected the position of the last answer in the last line"
    )
    few = await server.get("history", query | {"limit": "2"})
    count = len(few.body.splitlines())
    expect(count == 2, f"expected 2 lines with limit=2, got {count}")
    await _positions_are_checked(server, "history", "after")


@STATES.check("Unknown and malformed names are refused.")
async def state_refusals(server: ServerUnderTest) -> None:
    for path in ("state", "history"):
        unknown = await server.get(path, {"slices": "no_such_slice_of_this_server"})
        expect_problem(unknown, 404, "unknown_slice", f"an unknown slice of /{path}")
        malformed = await server.get(path, {"slices": "Not a name"})
        expect_problem(malformed, 400, "malformed", f"an invalid name in /{path}")


async def _positions_are_checked(server: ServerUnderTest, path: str, parameter: str) -> None:
    now = str((await server.state()).position)
    cases = {
        f"{seq_of(now)}.zzother": (410, "position_forked"),
        f"{seq_of(now) + 1_000_000}.zzother": (410, "position_forked"),
        "nonsense": (400, "malformed"),
    }
    for position, (status, code) in cases.items():
        answer = await server.get(path, {parameter: position})
        expect_problem(answer, status, code, f"/{path}?{parameter}={position}")
