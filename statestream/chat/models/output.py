"""The type that an answer must have: its JSON Schema for the provider, and the check of what the model has answered.

    ModelSettings(output=Weather)    # a model of pydantic, a dataclass, a TypedDict, or any type that pydantic knows

Providers accept a part of JSON Schema only. `strict_schema` makes a schema of that part, if there is one. What it
leaves out is checked anyway when the answer is complete.

Invariants: pure. A message never contains what the model has answered.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

UNFIT: Final = ("unfit_output", "The answer does not have the required form.")
"""The kind and the sentence of the error about an answer that does not fit."""
IN_PROMPT: Final = "Answer with nothing but JSON, without a code fence, that fits this JSON Schema:"
KEPT: Final = ("type", "description", "title", "enum", "const", "$ref", "pattern", "format")
"""The keywords that stay as they are."""
LIMITS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
"""The keywords that some providers accept."""
_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]", re.ASCII)
_FENCE: Final = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


class Output(Struct, frozen=True, kw_only=True):
    """A type: its name for providers, its JSON Schema, and what reads it."""

    name: str
    schema: Mapping[str, Any]
    adapter: TypeAdapter[Any]

    def value(self, text: str) -> Any:
        """The value of an answer. Raises ValueError if it does not fit."""
        fenced = _FENCE.fullmatch(text)
        try:
            return self.adapter.validate_json(fenced[1] if fenced else text)
        except ValidationError:
            raise ValueError(UNFIT[1]) from None

    def fits(self, text: str) -> bool:
        """Whether an answer is the JSON of a value, and nothing else."""
        try:
            self.adapter.validate_json(text)
        except ValidationError:
            return False
        return True

    def described(self) -> dict[str, Any]:
        """The type as the APIs of OpenAI take it: its name, and a strict schema if there is one."""
        strict = strict_schema(self.schema)
        schema = dict(self.schema) if strict is None else strict
        return {"name": self.name, "schema": schema, "strict": strict is not None}

    def in_prompt(self, instructions: str | None) -> str:
        """The instructions for a provider that cannot be given a schema."""
        asked = f"{IN_PROMPT} {json.dumps(self.schema, ensure_ascii=False)}"
        return f"{instructions}\n\n{asked}" if instructions else asked


def output_of(kind: Any) -> Output:
    """Describes a type for a provider. Raises TypeError if JSON cannot represent the type."""
    try:
        return _cached(kind)
    except TypeError as error:
        if "unhashable" in str(error):
            return _described(kind)
        raise


def _described(kind: Any) -> Output:
    name = _NAME.sub("_", getattr(kind, "__name__", ""))[:64] or "output"
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        return Output(name=name, schema=adapter.json_schema(), adapter=adapter)
    except PydanticUserError as error:
        raise TypeError(f"expected `output` to be a type that JSON can have, got {kind!r}: {error}") from error


_cached = functools.lru_cache(maxsize=256)(_described)


def strict_schema(schema: Mapping[str, Any], limits: bool = True) -> dict[str, Any] | None:
    """The schema as strict providers accept it: objects have exactly their properties, all of which are required.

    None if the type cannot be described in this way. `limits`: whether numbers, texts and arrays may have limits.
    """
    try:
        strict = _strict(schema, limits)
    except _NotStrict:
        return None
    return strict if strict.get("type") == "object" else None


class _NotStrict(Exception):
    """The schema has something that no strict schema has."""


def _strict(schema: Any, limits: bool) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or not {"type", "enum", "const", "$ref", "anyOf", "oneOf"} & schema.keys():
        raise _NotStrict
    strict = {name: schema[name] for name in (*KEPT, *(LIMITS if limits else ())) if name in schema}
    if schema.get("type") == "object":
        if schema.get("additionalProperties", False) is not False or "properties" not in schema:
            raise _NotStrict  # keys that nobody knows in advance
        strict["properties"] = {name: _strict(each, limits) for name, each in schema["properties"].items()}
        strict |= {"required": [*schema["properties"]], "additionalProperties": False}
    if schema.get("type") == "array":
        strict["items"] = _strict(schema.get("items"), limits)
        if "prefixItems" in schema:
            raise _NotStrict
    if choices := schema.get("anyOf", schema.get("oneOf")):
        strict["anyOf"] = [_strict(each, limits) for each in choices]
    if "$defs" in schema:
        strict["$defs"] = {name: _strict(each, limits) for name, each in schema["$defs"].items()}
    return strict
