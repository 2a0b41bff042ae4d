"""Checks of `POST /dispatch`: answers, ids that take effect once, conditions, errors, and the JSON limits.

Invariants: only the given action is dispatched with success; every other request must be refused.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from statestream.tools.conformance.servers.server_check import Section
from statestream.tools.conformance.servers.server_under_test import (
    JSON,
    ResponseUnderTest,
    ServerUnderTest,
    expect_problem,
)
from statestream.tools.conformance.strict_replica import seq_of
from statestream.tools.conformance.violation import expect

DISPATCH: Final = Section("POST /dispatch")
ERRORS: Final = Section("Errors")
LIMITS: Final = Section("JSON limits")
COPIES: Final = 8
CANARY: Final = "conformance-secret-5b1f"
BAD_PAYLOADS: Final = {
    "66 nested objects": b'{"a":' * 66 + b"1" + b"}" * 66,
    "100,000 nested arrays": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a repeated key": b'{"a":1,"a":2}',
    "the key __proto__": b'{"__proto__":{"a":1}}',
    "prototype under constructor": b'{"a":{"constructor":{"prototype":1}}}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "1e400": b'{"a":1e400}',
    "2^53": b'{"a":9007199254740992}',
    "-2^53": b'{"a":-9007199254740992}',
    "5,000 digits": b'{"a":' + b"9" * 5_000 + b"}",
    "a lone surrogate, escaped": b'{"a":"\\ud800"}',
    "a lone surrogate, encoded": b'{"a":"\xed\xa0\x80"}',
    "a byte that is not UTF-8": b'{"a":"\xff"}',
}


@DISPATCH.check("An answer contains its id, its position and each change, and seqs rise.")
async def answers(server: ServerUnderTest) -> None:
    last = 0
    for _ in range(3):
        action = server.action()
        answer = await server.dispatch(action)
        expect(answer.status == 200, f"expected a dispatch to be accepted, got {answer.shown()}")
        expect(answer.kind() == "application/json", f"expected application/json, got {answer.kind()}")
        body = answer.json
        missing = {"id", "position", "duplicate", "changes"} - set(body)
        expect(not missing, f"expected {', '.join(sorted(missing))} in the answer, got none")
        expect(body["id"] == action["id"], f"expected the id {action['id']}, got {body['id']}")
        expect(body["duplicate"] is False, f"expected duplicate: false, got {body['duplicate']!r}")
        versions = [change["version"] for change in body["changes"]]
        rising = versions and sorted(set(versions)) == versions and last < versions[0]
        expect(rising, f"expected versions that rise above {last}, got {versions}")
        last = seq_of(body["position"])
        expect(versions[-1] == last, f"expected the last version as the position's number, got {versions} at {last}")


@DISPATCH.check("An id takes effect once: a repeat returns the first answer and changes nothing.")
async def repeated_id(server: ServerUnderTest) -> None:
    action = server.action()
    first = (await server.dispatch(action)).json
    await server.act()
    before = await server.state()
    for _ in range(2):
        again = await server.dispatch(action)
        expect(again.status == 200, f"expected a repeat to be answered with 200, got {again.shown()}")
        _is_repeat(again.json, first)
    expect((await server.state()).same(before), "expected a repeat to change nothing, but the state has changed")


@DISPATCH.check("Copies of a request that arrive together take effect once.")
async def copies_at_once(server: ServerUnderTest) -> None:
    action = server.action()
    answers = await asyncio.gather(*(server.dispatch(action) for _ in range(COPIES)))
    for answer in answers:
        expect(answer.status == 200, f"expected 200 for each copy, got {answer.shown()}")
    bodies = [answer.json for answer in answers]
    first = [body for body in bodies if body["duplicate"] is False]
    expect(len(first) == 1, f"expected one of {COPIES} copies to take effect, {len(first)} answers say so")
    for body in bodies:
        if body is not first[0]:
            _is_repeat(body, first[0])
    for name, version in server.followed(first[0]):
        held = (await server.state()).versions.get(name)
        expect(held == version, f"expected version {version} of {name} after {COPIES} copies, got {held}")


def _is_repeat(body: Any, first: Any) -> None:
    expect(body["duplicate"] is True, f"expected duplicate: true for a repeat, got {body['duplicate']!r}")
    for name in ("id", "position", "changes"):
        expect(body[name] == first[name], f"expected the first {name} for a repeat, got {body[name]} for {first[name]}")


@DISPATCH.check("An id with other content is refused, and changes nothing.")
async def reused_id(server: ServerUnderTest) -> None:
    action = server.action()
    await server.dispatch(action)
    before = await server.state()
    other = _several(server, 2) | {"id": action["id"]}
    expect_problem(await server.dispatch(other), 409, "action_id_reused", "an id that is used for another request")
    expect(
        (await server.state()).same(before), "expected a refused request to change nothing, but the state has changed"
    )


@DISPATCH.check("Several actions take effect as one: their changes are consecutive and share the id of the cause.")
async def several(server: ServerUnderTest) -> None:
    async with server.stream() as stream:
        await stream.first()
        await server.act()
        answer = await server.dispatch(_several(server, 3) | {"id": f"{server.run}several"})
        expect(answer.status == 200, f"expected several actions to be accepted, got {answer.shown()}")
        await stream.until(answer.json["position"])
        count = len(server.followed(answer.json))
        singles = [frame.data["cause"]["id"] for frame in stream.frames[-count:] if frame.event == "state.update"]
        odd = [id for id in singles if id != answer.json["id"]]
        expect(not odd, f"expected the changes of {answer.json['id']} to be consecutive, got one of {odd[:1]} between")
    before = await server.state()
    broken = _several(server, 2)
    broken["actions"].append({"type": _no_such_action(server), "payload": {}})
    expect_problem(await server.dispatch(broken), 404, "unknown_action", "several actions, one of them unknown")
    expect(
        (await server.state()).same(before),
        "expected all of several actions or none to take effect, but the state has changed",
    )


@DISPATCH.check("`expect` makes a request conditional on the version of a slice.")
async def conditions(server: ServerUnderTest) -> None:
    name, version = server.followed(await server.act())[0]
    before = await server.state()
    stale = server.action() | {"expect": {name: version - 1}}
    expect_problem(await server.dispatch(stale), 409, "version_conflict", "an expected version that is not current")
    expect((await server.state()).same(before), "expected a conflict to change nothing, but the state has changed")
    met = await server.dispatch(server.action() | {"expect": {name: version}})
    expect(met.status == 200, f"expected a request whose condition holds to be accepted, got {met.shown()}")
    unknown = server.action() | {"expect": {"no_such_slice_of_this_server": 0}}
    expect_problem(await server.dispatch(unknown), 404, "unknown_slice", "a condition on an unknown slice")


@ERRORS.check("Malformed requests and unknown actions are answered with a problem that does not contain the payload.")
async def problems(server: ServerUnderTest) -> None:
    action, before = server.action(), await server.state()
    nowhere = {"type": _no_such_action(server), "payload": {"secret": CANARY}}
    malformed: list[Any] = [None, [], "text", {}, {"type": action["type"]}, {"actions": []}]
    malformed += [action | {"id": id} for id in ("", "a b", "x" * 129, 1)]
    malformed += [action | {"payload": [CANARY]}, action | {"more": CANARY}]
    for body in malformed:
        answer = await server.dispatch(body)
        expect_problem(answer, 400, "malformed", f"the body {str(body)[:60]}")
        for name, value in (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")):
            got = answer.headers.get(name)
            expect(got == value, f"expected {name}: {value} in an error, got {got}")
        _omits_payload(answer)
    answer = await server.dispatch(nowhere)
    expect_problem(answer, 404, "unknown_action", "an unknown action")
    _omits_payload(answer)
    expect(
        (await server.state()).same(before), "expected refused requests to change nothing, but the state has changed"
    )


def _omits_payload(answer: ResponseUnderTest) -> None:
    expect(CANARY.encode() not in answer.body, "expected a problem without the payload, got one with it")


@ERRORS.check("A body whose `Content-Type` is not JSON in UTF-8 is answered with 415.")
async def media_types(server: ServerUnderTest) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-7"):
        answer = await server.dispatch(server.action(), headers={"Content-Type": kind})
        expect_problem(answer, 415, "unsupported_media_type", f"Content-Type: {kind}")


@ERRORS.check("A query parameter that a route does not have is refused.")
async def parameters(server: ServerUnderTest) -> None:
    for path in ("stream/state", "state", "history"):
        answer = await server.get(path, {"slice": "x"})
        expect_problem(answer, 400, "malformed", f"/{path} with a parameter `slice`")
    before = await server.state()
    answer = await server.request("POST", "dispatch", {"slice": "x"}, json=server.action())
    expect_problem(answer, 400, "malformed", "/dispatch with a parameter `slice`")
    expect(
        (await server.state()).same(before), "expected a refused request to change nothing, but the state has changed"
    )


@ERRORS.check("A method that a route does not support is answered with 405, including `HEAD`.")
async def methods(server: ServerUnderTest) -> None:
    for path in ("stream/state", "state", "history"):
        answer = await server.request("HEAD", path)
        expect(answer.status == 405, f"expected 405 for HEAD /{path}, got {answer.status}")
        expect("GET" in answer.headers.get("Allow", ""), f"expected Allow: GET for HEAD /{path}")
    expect_problem(await server.request("PUT", "dispatch", {}), 405, "method_not_allowed", "PUT /dispatch")


@LIMITS.check("A body that exceeds the JSON limits is `malformed`, and changes nothing.")
async def json_limits(server: ServerUnderTest) -> None:
    before = await server.state()
    head = orjson.dumps({k: v for k, v in server.action().items() if k != "payload"})[:-1]
    bodies = {name: head + b',"payload":' + payload + b"}" for name, payload in BAD_PAYLOADS.items()}
    good = orjson.dumps(server.action())
    bodies |= {"a byte order mark": b"\xef\xbb\xbf" + good, "bytes after the value": good + b" 1", "nothing": b""}
    for name, body in bodies.items():
        expect_problem(await server.dispatch(body, headers=JSON), 400, "malformed", f"a body with {name}")
    expect((await server.state()).same(before), "expected refused bodies to change nothing, but the state has changed")


def _several(server: ServerUnderTest, count: int) -> dict[str, Any]:
    actions = [server.action() for _ in range(count)]
    return {"actions": [{k: v for k, v in action.items() if k != "id"} for action in actions]}


def _no_such_action(server: ServerUnderTest) -> str:
    return f"{server.template.type.partition('/')[0]}/no_such_action_of_this_server"
