"""GET /openapi.json: the routes of an application as OpenAPI 3.1, for generated clients and for tests.

Invariants: every route that this package has added to the application is described, by its own declaration. Everybody
sees the slices that they may know and their actions, and no others. What a schema cannot say, such as how deep JSON may
be, is on the page about the protocol. What travels in streams and WebSockets is in the other document. A document is
made in a thread, because the first one takes long.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from types import FunctionType
from typing import Any, Final

from aiohttp import web
from msgspec import Struct

from statestream.core.slices import Handler, Slice
from statestream.core.value_type import ValueType
from statestream.server.contract import ROUTES, Answer, Contract, Parameter, Route, Schema
from statestream.server.refusals import refusals, responses
from statestream.server.request import check_query, view_of
from statestream.server.routes import json_response
from statestream.server.schemas import Schemas
from statestream.server.security import Security

VERSION: Final = "1"
"""Of the protocol."""
DOCUMENT: Final = Contract(
    name="openapi",
    summary="This document: the routes.",
    answers=(Answer(description="OpenAPI 3.1.", model=dict[str, Any]),),
)


async def openapi(request: web.Request) -> web.Response:
    check_query(request)
    view, routes, security = view_of(request), request.config_dict[ROUTES], Security.of(request.config_dict)
    actions, slices = await view.complete(view.actions), await view.complete(view.described)
    described = Described(routes=routes, actions=actions, slices=slices, security=security)
    return json_response(await asyncio.to_thread(described.document))


OPENAPI: Final = Route(method="GET", path="/openapi.json", handler=openapi, contract=DOCUMENT)


class Described(Struct, frozen=True, kw_only=True):
    """What a document describes: routes, the actions and slices that its reader may know, and the credentials."""

    routes: list[Route]
    actions: list[Handler]
    slices: list[tuple[Slice, ValueType | None]]
    security: Security

    def document(self) -> Schema:
        schemas, paths = Schemas(), dict[str, Schema]()
        for route in self.routes:
            operation = self._operation(route, schemas)
            described = paths.setdefault(route.path, {})
            described[route.method.lower()] = operation
            if route.head:
                described["head"] = _without_bodies(operation)
        schemes = self.security.schemes("apiKey")
        more = {"securitySchemes": schemes} if schemes else {}
        return {
            "openapi": "3.1.0",
            "info": {"title": "statestream", "version": VERSION, "summary": "Follow and change shared state."},
            "servers": [{"url": "./"}],
            "paths": paths,
            "components": {"schemas": schemas.components, **more},
        }

    def _operation(self, route: Route, schemas: Schemas) -> Schema:
        contract = route.contract
        found: Schema = {"operationId": contract.name, "summary": contract.summary}
        if contract.parameters:
            found["parameters"] = [_parameter(each) for each in contract.parameters]
        if contract.body is not None:
            schema = self._body(contract, schemas)
            content = {"application/json": {"schema": schema}}
            found["requestBody"] = {"required": contract.needs_body, "content": content}
        if contract.content:
            content = {kind: {"schema": schema} if schema else {} for kind, schema in contract.content.items()}
            found["requestBody"] = {"content": content}
        found["responses"] = self._responses(route, schemas)
        return found | self._security(contract)

    def _body(self, contract: Contract, schemas: Schemas) -> Schema:
        if isinstance(contract.body, type):
            return schemas.taken(contract.body)
        schema: Schema = contract.body(schemas, self.actions)
        return schema

    def _responses(self, route: Route, schemas: Schemas) -> Schema:
        answers = {str(each.status): self._answer(each, schemas) for each in route.contract.answers}
        refused = refusals(route, authenticates=self.security.authenticates)
        for status, response in responses(refused, schemas, sentences=route.contract.sentences).items():
            known = answers.get(status, {})
            content = known.get("content", {}) | response["content"]
            answers[status] = response | known | {"content": content}
        return dict(sorted(answers.items()))

    def _answer(self, answer: Answer, schemas: Schemas) -> Schema:
        found: Schema = {"description": answer.description}
        if answer.headers:
            found["headers"] = {name: {"required": True, "schema": {"type": "string"}} for name in answer.headers}
        if answer.media_type is not None and answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            schema = {} if answer.model is None else {"schema": self._sent(answer.model, schemas)}
            found["content"] = {answer.media_type: schema}
        return found

    def _sent(self, model: Any, schemas: Schemas) -> Schema:
        if isinstance(model, FunctionType):
            schema: Schema = model(schemas, self.slices)
            return schema
        return schemas.sent(model)

    def _security(self, contract: Contract) -> Schema:
        if not self.security.authenticates:
            return {}
        accepted: list[Schema] = [{name: []} for name in self.security.of_route(contract)]
        return {"security": [{}, *accepted] if contract.access == "anybody" else accepted}


def _parameter(parameter: Parameter) -> Schema:
    schema = {"type": "array", "items": parameter.schema} if parameter.repeated else parameter.schema
    required = parameter.required or parameter.place == "path"
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        **({"required": True} if required else {}),
        "schema": schema,
    }


def _without_bodies(operation: Schema) -> Schema:
    """The same for HEAD."""
    answers = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in operation["responses"].items()
    }
    return {**operation, "operationId": f"{operation['operationId']}_head", "responses": answers}
