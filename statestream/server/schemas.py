"""The schemas of a document: JSON Schema of the types that the code uses, each of them once.

Invariants: what clients send is described with the limits of JSON, so that what a schema allows is not refused for
them. What the server sends is described openly: a later version may add members. No two types share a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from msgspec import Struct
from pydantic import TypeAdapter

from statestream.core.values import MAX_INT
from statestream.server.contract import NAME, Schema

KEY: Final[Schema] = {"type": "string", "pattern": r"^[A-Za-z0-9._~:@-]{1,128}$"}
ID: Final[Schema] = {"type": "string", "pattern": r"^[A-Za-z0-9._:-]{1,128}$"}
VERSIONS: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": f"^{NAME}$"},
    "additionalProperties": {"type": "integer", "minimum": 0, "maximum": MAX_INT},
}
NUMBER: Final[Schema] = {"minimum": -MAX_INT, "maximum": MAX_INT}
NAMES: Final[Schema] = {"not": {"const": "__proto__"}}
PLACE: Final = "#/components/schemas/"
OWN: Final = "#/$defs/"
JSON: Final = {"$ref": f"{PLACE}JSON"}
ANY: Final[Schema] = {
    "anyOf": [
        {"type": ["null", "boolean", "string"]},
        {"type": "number", **NUMBER},
        {"type": "array", "items": JSON},
        {"type": "object", "additionalProperties": JSON, "propertyNames": NAMES},
    ]
}
"""Any JSON that a client may send. How deep it may be, no schema can say."""


def reference(name: str) -> Schema:
    return {"$ref": f"{PLACE}{name}"}


class Schemas:
    """The component schemas of one document, by their names."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {"JSON": ANY}

    def sent(self, model: Any) -> Schema:
        """The schema of what the server sends: a reference to a component, unless the type has no name."""
        return self._add(_schema_of(model, untitled))

    def taken(self, model: Any) -> Schema:
        """The schema of what a client sends."""
        return self._add(_schema_of(model, limited))

    def own(self, name: str, schema: Schema) -> Schema:
        """A reference to a schema with its own definitions, which becomes a component."""
        return self.add(name, _inside(schema, name))

    def add(self, name: str, schema: Schema) -> Schema:
        """A reference to this schema, which becomes a component."""
        known = self.components.setdefault(name, schema)
        assert known == schema, f"two schemas have the name {name}"
        return reference(name)

    def _add(self, found: _Found) -> Schema:
        for name, schema in found.components.items():
            self.add(name, schema)
        return found.schema


class _Found(Struct, frozen=True, kw_only=True):
    """The schema of a type, and the components to which it refers."""

    schema: Schema
    components: Mapping[str, Schema]


@cache
def _schema_of(model: Any, adapt: Callable[[Any], Any]) -> _Found:
    """Pydantic takes milliseconds for one of the larger types."""
    schema = TypeAdapter(model).json_schema(ref_template=f"{PLACE}{{model}}")
    components = {name: adapt(each) for name, each in schema.pop("$defs", {}).items()}
    schema = adapt(schema)
    if schema.keys() == {"$ref"} or not isinstance(model, type) or model.__module__ == "builtins":
        return _Found(schema=schema, components=components)
    return _Found(schema=reference(model.__name__), components={**components, model.__name__: schema})


def _inside(value: Any, name: str) -> Any:
    """The schema with references to its own definitions that are true where the document has it."""
    if isinstance(value, list):
        return [_inside(each, name) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _inside(each, name) for key, each in value.items()}
    for key, target in found.items():  # beside references, those of a discriminator
        if isinstance(target, str) and target.startswith(OWN) and key != "default":
            found[key] = target.replace(OWN, f"{PLACE}{name}{OWN[1:]}", 1)
    return found


def untitled(value: Any) -> Any:
    """The schema without the titles that pydantic makes from names."""
    if isinstance(value, list):
        return [untitled(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: untitled(each) for key, each in value.items() if key != "title" or not isinstance(each, str)}


def limited(value: Any) -> Any:
    """The schema with the limits of JSON."""
    if isinstance(value, list):
        return [limited(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: limited(each) for key, each in value.items() if key != "title" or not isinstance(each, str)}
    if found.get("type") in ("integer", "number"):
        found = NUMBER | found
    if found.get("type") == "object" and found.get("additionalProperties", True) in (True, {}):
        found |= {"additionalProperties": JSON, "propertyNames": NAMES}
    if found.get("type") == "array" and "prefixItems" not in found and not found.get("items"):
        found["items"] = JSON
    if isinstance(found.get("properties"), dict):
        found["properties"] = {key: each if _says(each) else each | JSON for key, each in found["properties"].items()}
    return found


def _says(schema: Mapping[str, Any]) -> bool:
    """Whether a schema restricts anything."""
    return not schema.keys() <= {"description", "default"}
