"""Types of JSON Schemas, as far as pydantic and msgspec use JSON Schema.

Invariants: a type allows what its schema allows. Where TypeScript cannot say it, such as the length of a text, it
allows more; `unknown` is any JSON. No type of the global scope is used, so a declared one can have any name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from statestream.core.values import canonical
from statestream.tools.typescript.identifiers import comment, identifier, literal, member

Schema = Any
"""A JSON Schema: a dict, or True for anything, or False for nothing."""
SCALARS: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
_PREFIX: Final = re.compile(r"\^([A-Za-z0-9_/:-]+)", re.ASCII)
"""The pattern of a text that begins in some way."""
NARROW: Final = 90
"""An object without comments that is not wider stands in one line."""


class NamedTypes:
    """The types with names that a text declares. Two with the same content are one; others have names of their own."""

    def __init__(self) -> None:
        self.declarations: dict[str, str] = {}
        self._names: dict[bytes, str] = {}

    def of(self, schema: Schema, name: str | None = None) -> str:
        """The type of a schema with its own definitions, declared as `name` if it is an object."""
        definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
        bare = {key: value for key, value in schema.items() if key != "$defs"} if definitions else schema
        types = _Types(self, definitions)
        if name is None or not isinstance(bare, dict) or "properties" not in bare:
            return types.of(bare)
        return self.named(name, bare, types)

    def named(self, name: str, schema: Schema, types: _Types) -> str:
        """The name under which a schema is declared."""
        content = canonical([schema, types.reached(schema)])
        if content in self._names:
            return self._names[content]
        wanted = found = identifier(name)
        number = 1
        while found in self.declarations:
            number += 1
            found = f"{wanted}{number}"
        self._names[content], self.declarations[found] = found, ""  # known before, as it may contain itself
        is_object = isinstance(schema, dict) and "properties" in schema and "$ref" not in schema
        body = types.members(schema) if is_object else types.of(schema)
        keyword = f"interface {found} {body}" if is_object else f"type {found} = {body};"
        said = schema.get("description") if isinstance(schema, dict) else None
        self.declarations[found] = f"{comment(said)}export {keyword}"
        return found


class _Types:
    """The types of schemas that have the same definitions."""

    def __init__(self, named: NamedTypes, definitions: Mapping[str, Schema]) -> None:
        self._named, self._definitions = named, definitions

    def of(self, schema: Schema) -> str:
        if not isinstance(schema, dict):
            return "never" if schema is False else "unknown"
        if "$ref" in schema:
            name = _target(schema["$ref"])
            return self._named.named(name, self._definitions[name], self)
        if "const" in schema or "enum" in schema:
            return union(literal(each) for each in schema.get("enum", [schema.get("const")]))
        for alternatives in ("anyOf", "oneOf"):
            if alternatives in schema:
                return union(map(self.of, schema[alternatives]))
        if "allOf" in schema:
            return " & ".join(_grouped(self.of(each)) for each in schema["allOf"])
        kind = schema.get("type")
        if isinstance(kind, list):
            return union(self.of({**schema, "type": each}) for each in kind)
        if kind == "array":
            return self._array(schema)
        if kind == "object" or "properties" in schema:
            return self._object(schema)
        prefix = _PREFIX.fullmatch(schema.get("pattern", "")) if kind == "string" else None
        return f"`{prefix[1]}${{string}}`" if prefix else SCALARS.get(str(kind), "unknown")

    def _array(self, schema: Schema) -> str:
        first = schema.get("prefixItems")
        if first is None:
            return f"{_grouped(self.of(schema.get('items', True)))}[]"
        least, bounded = schema.get("minItems", 0), schema.get("maxItems") == len(first)
        parts = [_grouped(self.of(each)) + ("" if at < least else "?") for at, each in enumerate(first)]
        rest = schema.get("items", not bounded)
        return f"[{', '.join([*parts, *([] if rest is False else [f'...{_grouped(self.of(rest))}[]'])])}]"

    def _object(self, schema: Schema) -> str:
        members = self.members(schema)
        flat = " ".join(line.strip() for line in members.split("\n"))
        return members if "/**" in members or len(flat) > NARROW else flat.replace("; }", " }")

    def members(self, schema: Schema) -> str:
        """An object, with a line for each member."""
        required, lines, kinds = schema.get("required", ()), [], []
        for key, each in schema.get("properties", {}).items():
            kind, optional = self.of(each), key not in required
            kinds += [kind, *(["undefined"] if optional else [])]
            lines.append(f"{comment(_said(each))}{member(key)}{'?' if optional else ''}: {kind};")
        if (others := self._others(schema, kinds)) is not None:
            lines.append(f"{others};")
        return block(lines)

    def _others(self, schema: Schema, kinds: list[str]) -> str | None:
        """The index signature for members that have no names of their own; None if there are none."""
        extra, patterns = schema.get("additionalProperties"), list(schema.get("patternProperties", {}).values())
        if kinds and not extra and extra != {} and not patterns:
            return None
        if extra is False and not patterns:
            return "[key: string]: never"
        values = [self.of(each) for each in (*patterns, *([] if patterns and not extra else [extra]))]
        keys = self._resolved(schema.get("propertyNames"))
        if not kinds and all(isinstance(each, str) for each in keys.get("enum", [keys.get("const")])):
            return f"[key in {self.of(schema['propertyNames'])}]?: {union(values)}"
        return f"[key: string]: {union([*values, *kinds])}"

    def _resolved(self, schema: Schema) -> Mapping[str, Any]:
        if isinstance(schema, dict) and "$ref" in schema:
            schema = self._definitions[_target(schema["$ref"])]
        return schema if isinstance(schema, dict) else {}

    def reached(self, schema: Schema) -> dict[str, Schema]:
        """The definitions to which a schema leads, by their names."""
        found: dict[str, Schema] = {}
        left = list(_references(schema))
        while left:
            name = left.pop()
            if name not in found:
                found[name] = self._definitions[name]
                left.extend(_references(found[name]))
        return found


def union(types: Iterable[str]) -> str:
    """Any of the types."""
    found = [each for each in dict.fromkeys(types) if each != "never"]
    return "unknown" if "unknown" in found else " | ".join(found) or "never"


def block(lines: Iterable[str]) -> str:
    """The members of an object, indented."""
    indented = ("  " + line for each in lines for line in each.split("\n"))
    return "\n".join(["{", *indented, "}"])


def _grouped(kind: str) -> str:
    return f"({kind})" if " | " in kind or " & " in kind else kind


def _said(schema: Schema) -> str | None:
    return schema.get("description") if isinstance(schema, dict) else None


def _target(reference: str) -> str:
    return unquote(reference.removeprefix("#/$defs/")).replace("~1", "/").replace("~0", "~")


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield _target(reference)
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
