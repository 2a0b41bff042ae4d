"""Checks of `POST /dispatch`: answers, ids that take effect once, conditions, errors, and the limits of JSON."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from statestream.tools.conformance.check import Section, expect
from statestream.tools.conformance.subject import JSON, Answer, Subject, expect_problem, refusal
from statestream.tools.conformance.view import seq_of

DISPATCH: Final = Section("POST /dispatch")
ERRORS: Final = Section("Errors")
LIMITS: Final = Section("JSON limits")
COPIES: Final = 8
UNSAID: Final = "conformance-secret-5b1f"
BAD_PAYLOADS: Final = {
    "66 objects inside each other": b'{"a":' * 66 + b"1" + b"}" * 66,
    "100,000 arrays inside each other": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a key twice": b'{"a":1,"a":2}',
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
    "a byte that is no UTF-8": b'{"a":"\xff"}',
}


@DISPATCH.check("An answer names its id, its position and each change; a later position is a later change.")
async def answers(subject: Subject) -> None:
    last = 0
    for _ in range(3):
        action = subject.action()
        answer = await subject.dispatch(action)
        expect(answer.status == 200, f"expected a dispatch to be accepted, got {refusal(answer)}")
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


@DISPATCH.check("An id takes effect once: a repeat is answered with the first result and changes nothing.")
async def repeated_id(subject: Subject) -> None:
    action = subject.action()
    first = (await subject.dispatch(action)).json
    await subject.act()
    before = await subject.state()
    for _ in range(2):
        again = await subject.dispatch(action)
        expect(again.status == 200, f"expected a repeat to be answered with 200, got {refusal(again)}")
        _is_repeat(again.json, first)
    expect((await subject.state()).same(before), "expected a repeat to change nothing, the state has changed")


@DISPATCH.check("Copies of a request that come together take effect once.")
async def copies_at_once(subject: Subject) -> None:
    action = subject.action()
    answers = await asyncio.gather(*(subject.dispatch(action) for _ in range(COPIES)))
    for answer in answers:
        expect(answer.status == 200, f"expected 200 for each copy, got {refusal(answer)}")
    bodies = [answer.json for answer in answers]
    first = [body for body in bodies if body["duplicate"] is False]
    expect(len(first) == 1, f"expected one of {COPIES} copies to take effect, {len(first)} say so")
    for body in bodies:
        if body is not first[0]:
            _is_repeat(body, first[0])
    for name, version in subject.followed(first[0]):
        held = (await subject.state()).versions.get(name)
        expect(held == version, f"expected version {version} of {name} after {COPIES} copies, got {held}")


def _is_repeat(body: Any, first: Any) -> None:
    expect(body["duplicate"] is True, f"expected duplicate: true for a repeat, got {body['duplicate']!r}")
    for name in ("id", "position", "changes"):
        expect(body[name] == first[name], f"expected the first {name} for a repeat, got {body[name]} for {first[name]}")


@DISPATCH.check("An id stands for one content: with another it is refused, and nothing changes.")
async def reused_id(subject: Subject) -> None:
    action = subject.action()
    await subject.dispatch(action)
    before = await subject.state()
    other = _several(subject, 2) | {"id": action["id"]}
    expect_problem(await subject.dispatch(other), 409, "action_id_reused", "an id that is used for another request")
    expect((await subject.state()).same(before), "expected a refused request to change nothing, the state has changed")


@DISPATCH.check("Several actions take effect as one: their changes follow each other and share the cause's id.")
async def several(subject: Subject) -> None:
    async with subject.watch() as watch:
        await watch.first()
        await subject.act()
        answer = await subject.dispatch(_several(subject, 3) | {"id": f"{subject.run}several"})
        expect(answer.status == 200, f"expected several actions to be accepted, got {refusal(answer)}")
        await watch.until(answer.json["position"])
        count = len(subject.followed(answer.json))
        singles = [frame.data["cause"]["id"] for frame in watch.frames[-count:] if frame.event == "state.update"]
        odd = [id for id in singles if id != answer.json["id"]]
        expect(not odd, f"expected the changes of {answer.json['id']} behind each other, got one of {odd[:1]} between")
    before = await subject.state()
    broken = _several(subject, 2)
    broken["actions"].append({"type": _no_such_action(subject), "payload": {}})
    expect_problem(await subject.dispatch(broken), 404, "unknown_action", "several actions of which one is unknown")
    expect((await subject.state()).same(before), "expected all of several actions or none, the state has changed")


@DISPATCH.check("`expect` makes a request conditional on a slice's version.")
async def conditions(subject: Subject) -> None:
    name, version = subject.followed(await subject.act())[0]
    before = await subject.state()
    stale = subject.action() | {"expect": {name: version - 1}}
    expect_problem(await subject.dispatch(stale), 409, "version_conflict", "an expected version that is not held")
    expect((await subject.state()).same(before), "expected a conflict to change nothing, the state has changed")
    met = await subject.dispatch(subject.action() | {"expect": {name: version}})
    expect(met.status == 200, f"expected a condition that holds to let the request in, got {refusal(met)}")
    unknown = subject.action() | {"expect": {"no_such_slice_of_this_server": 0}}
    expect_problem(await subject.dispatch(unknown), 404, "unknown_slice", "a condition on an unknown slice")


@ERRORS.check("What cannot be read is `malformed`, what does not exist is named so: as a problem, without the payload.")
async def problems(subject: Subject) -> None:
    action, before = subject.action(), await subject.state()
    nowhere = {"type": _no_such_action(subject), "payload": {"secret": UNSAID}}
    malformed: list[Any] = [None, [], "text", {}, {"type": action["type"]}, {"actions": []}]
    malformed += [action | {"id": id} for id in ("", "a b", "x" * 129, 1)]
    malformed += [action | {"payload": [UNSAID]}, action | {"more": UNSAID}]
    for body in malformed:
        answer = await subject.dispatch(body)
        expect_problem(answer, 400, "malformed", f"the body {str(body)[:60]}")
        _tells_nothing(answer)
    answer = await subject.dispatch(nowhere)
    expect_problem(answer, 404, "unknown_action", "an unknown action")
    _tells_nothing(answer)
    expect((await subject.state()).same(before), "expected refused requests to change nothing, the state has changed")


def _tells_nothing(answer: Answer) -> None:
    expect(UNSAID.encode() not in answer.body, "expected a problem without the payload, got one with it")


@ERRORS.check("A body that is not JSON in UTF-8 by its Content-Type is 415.")
async def media_types(subject: Subject) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-7"):
        answer = await subject.dispatch(subject.action(), headers={"Content-Type": kind})
        expect_problem(answer, 415, "unsupported_media_type", f"Content-Type: {kind}")


@ERRORS.check("A method that a path does not have is 405, HEAD too: there is no stream without its body.")
async def methods(subject: Subject) -> None:
    for path in ("/stream/state", "/state", "/history"):
        answer = await subject.ask("HEAD", path)
        expect(answer.status == 405, f"expected 405 for HEAD {path}, got {answer.status}")
        expect("GET" in answer.headers.get("Allow", ""), f"expected Allow: GET for HEAD {path}")
    expect_problem(await subject.ask("PUT", "/dispatch", {}), 405, "method_not_allowed", "PUT /dispatch")


@LIMITS.check("A payload that breaks the limits of JSON is `malformed`, and changes nothing.")
async def json_limits(subject: Subject) -> None:
    before = await subject.state()
    head = orjson.dumps({k: v for k, v in subject.action().items() if k != "payload"})[:-1]
    bodies = {name: head + b',"payload":' + payload + b"}" for name, payload in BAD_PAYLOADS.items()}
    good = orjson.dumps(subject.action())
    bodies |= {"a byte order mark": b"\xef\xbb\xbf" + good, "bytes behind the value": good + b" 1", "nothing": b""}
    for name, body in bodies.items():
        expect_problem(await subject.dispatch(body, headers=JSON), 400, "malformed", f"a body with {name}")
    expect((await subject.state()).same(before), "expected refused bodies to change nothing, the state has changed")


def _several(subject: Subject, count: int) -> dict[str, Any]:
    actions = [subject.action() for _ in range(count)]
    return {"actions": [{k: v for k, v in action.items() if k != "id"} for action in actions]}


def _no_such_action(subject: Subject) -> str:
    return f"{subject.template.type.partition('/')[0]}/no_such_action_of_this_server"
