"""The body of POST /dispatch: the models that check it, and its schema for one reader of a document.

Invariants: the payload of an action is described by the annotations of its handler, which check it. A reader is told
about the actions of the slices that they may know, and about no others.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, Final

from pydantic import Field

from statestream.core.change import Action
from statestream.core.slices import Handler
from statestream.server.bodies import Body
from statestream.server.contract import Schema
from statestream.server.schemas import ID, KEY, VERSIONS, Schemas, limited, reference

MAX_ACTIONS: Final = 1_000
NEVER: Final[Schema] = {"not": {}}
"""For a reader who may know no actions."""


class OneOfSeveral(Body):
    """An action in the body of a dispatch."""

    type: str
    payload: dict[str, Any]
    key: str | None = None

    def action(self) -> Action:
        return Action(type=self.type, payload=self.payload, key=self.key)


class One(OneOfSeveral):
    """The body of a dispatch of one action."""

    id: str | None = None
    expect: dict[str, int] = Field(default_factory=dict)


class Several(Body):
    """The body of a dispatch of several actions that take effect together."""

    actions: list[OneOfSeveral] = Field(min_length=1, max_length=MAX_ACTIONS)
    id: str | None = None
    expect: dict[str, int] = Field(default_factory=dict)


def dispatch_body(schemas: Schemas, actions: list[Handler]) -> Schema:
    """The schema of the body for a reader who may know these actions.

    Adds a schema for each action's payload, and for the action itself, to `schemas`.
    """
    described = {_name(handler): _described(handler, schemas) for handler in actions}
    for name, action in described.items():
        schemas.add(name, action)
    several = _several([reference(name) for name in described])
    more = {name: several["properties"][name] for name in ("id", "expect")}
    schemas.add("Several", several)
    schemas.add("One", {"anyOf": [_with(action, more) for action in described.values()] or [NEVER]})
    return {"anyOf": [reference("One"), reference("Several")]}


def _name(handler: Handler) -> str:
    """A name for a component, which has fewer letters than Python allows in the name of a function."""
    return re.sub(r"[^A-Za-z0-9_.]", lambda other: f"-{ord(other[0]):x}", handler.action_type.replace("/", "."))


def _described(handler: Handler, schemas: Schemas) -> Schema:
    """One action as it stands in a body."""
    name = f"{_name(handler)}.payload"
    payload = schemas.own(name, limited(handler.signature.schema()))
    keyed: Schema = {"key": KEY} if handler.slice.keyed else {}
    return {
        "type": "object",
        "description": inspect.cleandoc(handler.function.__doc__ or ""),
        "required": ["type", "payload", *keyed],
        "properties": {"type": {"const": handler.action_type}, "payload": payload, **keyed},
        "additionalProperties": False,
    }


def _with(action: Schema, extra: Schema) -> Schema:
    return {**action, "properties": {**action["properties"], **extra}}


def _several(actions: list[Schema]) -> Schema:
    """The schema of a body with several actions, and with the forms of ids and versions, which other code checks."""
    model = Several.model_json_schema()
    items = {name: value for name, value in model["properties"]["actions"].items() if name != "title"}
    properties = {
        "actions": {**items, "items": {"anyOf": actions or [NEVER]}},
        "id": {"anyOf": [ID, {"type": "null"}]},
        "expect": VERSIONS,
    }
    return {"type": "object", "required": model["required"], "properties": properties, "additionalProperties": False}
