"""GET /openapi.json: the routes of the state as OpenAPI 3.1, for generated clients and for tests.

Invariants: bodies and payloads are described by the models that check them. Everybody sees the actions of the
slices that they may know, and no others. What a schema cannot say, such as how deep JSON may be, is on the page about
the protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from aiohttp import web

from statestream.core.errors import StatestreamError
from statestream.core.slices import Handler
from statestream.core.values import MAX_INT
from statestream.server.bodies import Body
from statestream.server.request import check_query, view_of
from statestream.server.routes import Several, json_response
from statestream.server.tickets import TICKETS

Schema = dict[str, Any]
POSITION: Final[Schema] = {"type": "string", "pattern": r"^(0\.0|[1-9][0-9]{0,14}\.[A-Za-z0-9]{1,32})$"}
KEY: Final[Schema] = {"type": "string", "pattern": r"^[A-Za-z0-9._~:@-]{1,128}$"}
ID: Final[Schema] = {"type": "string", "pattern": r"^[A-Za-z0-9._:-]{1,128}$"}
NUMBER: Final[Schema] = {"minimum": -MAX_INT, "maximum": MAX_INT}
NAMES: Final[Schema] = {"not": {"const": "__proto__"}}
JSON: Final = {"$ref": "#/components/schemas/JSON"}
COMPONENTS: Final[Mapping[str, Schema]] = {
    "JSON": {
        "anyOf": [
            {"type": ["null", "boolean", "string"]},
            {"type": "number", **NUMBER},
            {"type": "array", "items": JSON},
            {
                "type": "object",
                "additionalProperties": JSON,
                "propertyNames": NAMES,
            },
        ]
    },
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": {"const": "about:blank"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "detail": {"type": "string"},
            "reason": {"type": "string"},
        },
    },
    "Result": {
        "type": "object",
        "required": ["id", "position", "duplicate", "changes"],
        "properties": {
            "id": ID,
            "position": POSITION,
            "duplicate": {"type": "boolean"},
            "changes": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["slice", "version"],
                    "properties": {"slice": {"type": "string"}, "version": {"type": "integer", "minimum": 1}},
                },
            },
        },
    },
    "State": {
        "type": "object",
        "required": ["position", "slices", "versions"],
        "properties": {
            "position": POSITION,
            "slices": {"type": "object"},
            "versions": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
        },
    },
}
NAME: Final = "[a-z][a-z0-9_]{0,63}(/[A-Za-z0-9._~:@-]{1,128})?"
ITEM: Final = rf"(\*|[a-z][a-z0-9_]{{0,63}}/\*|{NAME})"
SLICES: Final = "Names, `name/*` for a family, or `*`, separated by commas. Without it: every plain slice."
PARAMETERS: Final[Mapping[str, tuple[str, Schema]]] = {
    "slices": (SLICES, {"type": "string", "pattern": rf"^{ITEM}(,{ITEM})*$"}),
    "cause": ("Whether causes contain payloads.", {"enum": ["brief", "full"]}),
    "at": ("The state as of this position.", POSITION),
    "after": ("Only what is after this position.", POSITION),
    "limit": ("At most so many lines.", {"type": "integer", "minimum": 0, "maximum": MAX_INT}),
}


async def openapi(request: web.Request) -> web.Response:
    check_query(request)
    return json_response(document(view_of(request).actions(), tickets=TICKETS in request.config_dict))


def document(actions: list[Handler], *, tickets: bool) -> Schema:
    """The description of the state's routes, with these actions. `tickets`: whether the server issues them."""
    schemas = dict(COMPONENTS)
    return {
        "openapi": "3.1.0",
        "info": {"title": "statestream", "version": "1", "summary": "Follow and change shared state."},
        "servers": [{"url": "./"}],
        "paths": {
            "/stream/state": {"get": _stream()},
            "/dispatch": {"post": _dispatch(actions, schemas)},
            "/state": {"get": _state()},
            "/history": {"get": _history()},
            "/metrics": {"get": _read("metrics", "Metrics of Prometheus.", "text/plain")},
            "/openapi.json": {"get": _read("openapi", "This document.", "application/json")},
            **({"/tickets": {"post": _ticket()}} if tickets else {}),
        },
        "components": {"schemas": schemas},
    }


def _read(operation: str, summary: str, kind: str, *parameters: str, schema: Schema | None = None) -> Schema:
    answer = {"description": summary, "content": {kind: {"schema": schema} if schema else {}}}
    found = {"operationId": operation, "summary": summary, "responses": {"200": answer, **_problems()}}
    return found | ({"parameters": [_parameter(name) for name in parameters]} if parameters else {})


def _stream() -> Schema:
    found = _read("follow", "The state, and every change to it.", "text/event-stream", "slices", "cause", "after")
    cursor = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    return {**found, "parameters": [*found["parameters"], cursor | {"description": "The position to resume at."}]}


def _state() -> Schema:
    state = {"$ref": "#/components/schemas/State"}
    found = _read("state", "The state now, or as it was.", "application/json", "slices", "at", schema=state)
    found["responses"]["304"] = {"description": "It is still what `If-None-Match` names."}
    return found


def _history() -> Schema:
    return _read("history", "Changes, a line each.", "application/x-ndjson", "slices", "after", "limit", "cause")


def _ticket() -> Schema:
    summary = "Sets a cookie that opens one EventSource or WebSocket, and is then replaced by one for all further ones."
    issued = {
        "description": "The cookie is in `Set-Cookie`.",
        "headers": {"Set-Cookie": {"schema": {"type": "string"}}},
    }
    return {"operationId": "ticket", "summary": summary, "responses": {"204": issued, **_problems()}}


def _parameter(name: str) -> Schema:
    description, schema = PARAMETERS[name]
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _problems() -> Schema:
    """An answer for every status that an error can have."""
    codes: dict[int, set[str]] = {404: {"not_found"}, 405: {"method_not_allowed"}, 500: {"internal"}}
    for kind in _kinds(StatestreamError):
        if kind.status >= 400 and kind.code != StatestreamError.code:
            codes.setdefault(kind.status, set()).add(kind.code)
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status): {"description": ", ".join(sorted(codes[status])), "content": content} for status in sorted(codes)
    }


def _kinds(kind: type[StatestreamError]) -> Iterator[type[StatestreamError]]:
    for each in kind.__subclasses__():
        if each.__module__ == StatestreamError.__module__:
            yield each
            yield from _kinds(each)


def _dispatch(actions: list[Handler], schemas: dict[str, Schema]) -> Schema:
    """Adds a schema for each action's payload, and for the action itself, to `schemas`."""
    for handler in actions:
        name = handler.action_type.replace("/", ".")
        schemas[f"{name}.payload"] = _closed(handler.signature.schema(), f"{name}.payload")
        schemas[name] = _action(handler, name)
    every: list[Any] = [_reference(handler.action_type.replace("/", ".")) for handler in actions] or [False]
    schemas["Several"] = _body(Several, {"anyOf": every})
    more = {name: schemas["Several"]["properties"][name] for name in ("id", "expect")}
    schemas["One"] = {
        "anyOf": [_with(schemas[each.action_type.replace("/", ".")], more) for each in actions] or [False]
    }
    body = {"anyOf": [_reference("One"), _reference("Several")]}
    result = {"description": "It is durable.", "content": {"application/json": {"schema": _reference("Result")}}}
    return {
        "operationId": "dispatch",
        "summary": "Applies an action, or several that take effect together.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {"200": result, **_problems()},
    }


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _action(handler: Handler, name: str) -> Schema:
    """One action as it stands in a body."""
    keyed: Schema = {"key": KEY} if handler.slice.keyed else {}
    return {
        "type": "object",
        "description": (handler.function.__doc__ or "").strip(),
        "required": ["type", "payload", *keyed],
        "properties": {"type": {"const": handler.action_type}, "payload": _reference(f"{name}.payload"), **keyed},
        "additionalProperties": False,
    }


def _with(action: Schema, extra: Schema) -> Schema:
    return {**action, "properties": {**action["properties"], **extra}}


def _body(model: type[Body], action: Schema) -> Schema:
    """The schema of a body with several actions, and with the forms of ids and versions, which other code checks."""
    found = {name: value for name, value in model.model_json_schema().items() if name in ("type", "required")}
    actions = {**model.model_json_schema()["properties"]["actions"], "items": action}
    versions = {"type": "integer", "minimum": 0, "maximum": MAX_INT}
    properties = {
        "actions": {name: value for name, value in actions.items() if name != "title"},
        "id": {"anyOf": [ID, {"type": "null"}]},
        "expect": {"type": "object", "propertyNames": {"pattern": f"^{NAME}$"}, "additionalProperties": versions},
    }
    return {**found, "properties": properties, "additionalProperties": False}


def _closed(value: Any, name: str) -> Any:
    """The schema with the limits of JSON, and with its own definitions where the document has it."""
    if isinstance(value, list):
        return [_closed(each, name) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _closed(each, name) for key, each in value.items() if key != "title" or not isinstance(each, str)}
    if found.get("type") in ("integer", "number"):
        found = NUMBER | found
    if found.get("type") == "object" and found.get("additionalProperties", True) in (True, {}):
        found |= {"additionalProperties": JSON, "propertyNames": NAMES}
    if found.get("type") == "array" and "prefixItems" not in found and not found.get("items"):
        found["items"] = JSON
    if isinstance(reference := found.get("$ref"), str):
        found["$ref"] = reference.replace("#/", f"#/components/schemas/{name}/")
    if isinstance(found.get("properties"), dict):
        found["properties"] = {key: each or JSON for key, each in found["properties"].items()}
    return found
