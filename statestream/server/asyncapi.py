"""GET /asyncapi.json: the streams and WebSockets of an application as AsyncAPI 3.0.

A route with messages is a channel. What the server sends is an operation `send`, what a client sends `receive`. A
request that opens a stream is a message as well if it has a body; the stream is the reply to it.

Invariants: the same declarations as in the other document, and the same readers. A channel has the name of its route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from msgspec import Struct

from statestream.server.contract import ROUTES, Answer, Carrier, Contract, Messages, Parameter, Route, Schema
from statestream.server.openapi import VERSION
from statestream.server.request import check_query
from statestream.server.routes import json_response
from statestream.server.schemas import Schemas
from statestream.server.security import Security

CONTENT: Final[Mapping[Carrier, str]] = {
    "events": "application/json",
    "lines": "application/json",
    "socket": "application/json",
    "text": "text/plain",
}
TRAVELS: Final[Mapping[Carrier, str]] = {
    "events": "Server-sent events. The data of each is a message; if there are several kinds with names of their own, "
    "the message has the name of the event.",
    "lines": "A message is a line.",
    "socket": "A message is a text frame of the WebSocket.",
    "text": "A message is a bit of the text, of any length.",
}
REQUEST: Final = "request"
END: Final = "end_of_stream"


async def asyncapi(request: web.Request) -> web.Response:
    check_query(request)
    routes, security = request.config_dict[ROUTES], Security.of(request.config_dict)
    return json_response(await asyncio.to_thread(Channels(routes=routes, security=security).document))


ASYNCAPI: Final = Route(
    method="GET",
    path="/asyncapi.json",
    handler=asyncapi,
    contract=Contract(
        name="asyncapi",
        summary="The streams and the WebSockets.",
        answers=(Answer(description="AsyncAPI 3.0.", model=dict[str, Any]),),
    ),
)


class Channels(Struct, frozen=True, kw_only=True):
    """What a document describes: the routes that have messages, and what credentials there are."""

    routes: list[Route]
    security: Security

    def document(self) -> Schema:
        schemas, channels, operations = Schemas(), dict[str, Schema](), dict[str, Schema]()
        for route in self.routes:
            messages = route.contract.messages
            if messages is not None:
                channels[route.contract.name] = _channel(route, messages, schemas)
                operations |= self._operations(route, messages)
        schemes = self.security.schemes("httpApiKey")
        more = {"securitySchemes": schemes} if schemes else {}
        return {
            "asyncapi": "3.0.0",
            "info": {
                "title": "statestream",
                "version": VERSION,
                "description": "Streams and WebSockets. Addresses are relative to the place of this document.",
            },
            "defaultContentType": "application/json",
            "channels": channels,
            "operations": operations,
            "components": {"schemas": schemas.components, **more},
        }

    def _operations(self, route: Route, messages: Messages) -> Schema:
        """One operation, or for a WebSocket one for each direction."""
        contract = route.contract
        secured = self._security(contract)
        sends = _references(contract.name, _sent(messages))
        common: Schema = {"channel": {"$ref": f"#/channels/{contract.name}"}, "summary": contract.summary, **secured}
        if messages.carrier == "socket":
            takes = _references(contract.name, messages.takes)
            return {
                f"{contract.name}_send": {"action": "send", **common, "messages": sends},
                f"{contract.name}_receive": {"action": "receive", **common, "messages": takes},
            }
        common["bindings"] = {"http": {"method": route.method, **_query(contract), "bindingVersion": "0.3.0"}}
        if contract.body is None:
            return {contract.name: {"action": "send", **common, "messages": sends}}
        asks = _references(contract.name, [REQUEST])
        reply = {"channel": common["channel"], "messages": sends}
        return {contract.name: {"action": "receive", **common, "messages": asks, "reply": reply}}

    def _security(self, contract: Contract) -> Schema:
        """The credentials, any one of which is taken. AsyncAPI cannot say that they may be left out."""
        names = self.security.of_route(contract)
        if not names or contract.access == "anybody":
            return {}
        return {"security": [{"$ref": f"#/components/securitySchemes/{name}"} for name in names]}


def _channel(route: Route, messages: Messages, schemas: Schemas) -> Schema:
    contract = route.contract
    found: Schema = {
        "address": route.path,
        "title": f"{route.method} {route.path}",
        "description": f"{contract.summary} {TRAVELS[messages.carrier]}",
        "messages": {name: _message(name, kind, messages.carrier, schemas) for name, kind in messages.sends.items()},
    }
    if messages.ending is not None:
        found["messages"][END] = {
            "name": END,
            "contentType": "text/plain",
            "summary": "The data of the last event of a complete stream.",
            "payload": {"const": messages.ending},
        }
    if contract.body is not None:
        found["messages"][REQUEST] = _taken(REQUEST, contract.body, schemas)
    for name, kind in messages.takes.items():
        found["messages"][name] = _taken(name, kind, schemas)
    places = {each.name: {"description": each.description} for each in contract.parameters if each.place == "path"}
    if places:
        found["parameters"] = places
    if messages.carrier == "socket":
        found["bindings"] = {"ws": {"method": "GET", **_query(contract), "bindingVersion": "0.1.0"}}
    return found


def _message(name: str, kind: Any, carrier: Carrier, schemas: Schemas) -> Schema:
    return {"name": name, "contentType": CONTENT[carrier], "payload": schemas.sent(kind)}


def _taken(name: str, kind: Any, schemas: Schemas) -> Schema:
    return {"name": name, "contentType": "application/json", "payload": schemas.taken(kind)}


def _sent(messages: Messages) -> list[str]:
    return [*messages.sends, *([] if messages.ending is None else [END])]


def _references(channel: str, names: Any) -> list[Schema]:
    return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]


def _query(contract: Contract) -> Schema:
    """The parameters of the query, as one object."""
    properties = {each.name: _property(each) for each in contract.parameters if each.place == "query"}
    return {"query": {"type": "object", "properties": properties}} if properties else {}


def _property(parameter: Parameter) -> Schema:
    schema = {"type": "array", "items": parameter.schema} if parameter.repeated else parameter.schema
    return {**schema, "description": parameter.description}
