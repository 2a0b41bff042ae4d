"""The type of a slice's value: JSON is checked against it and described by it.

A type that has nothing but what JSON has, such as a TypedDict, describes the value itself. Any other type, such as a
dataclass, a Struct, a Pydantic model, or a TypedDict with a datetime, stands for Python objects: they are made of the
value, and the value of them.

Invariants: pure. Pydantic reads types, as it does for payloads, and msgspec those with Structs, which pydantic does not
know. JSON is checked strictly. Objects are checked whenever JSON is made of them, so what they leave can be read again.
No message contains a value.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec
import orjson
from msgspec import inspect
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError

from statestream.core.change import REMOVED
from statestream.core.draft.tracker import MAX_OPS, bare
from statestream.core.errors import InvalidValue, NotJSON
from statestream.core.patch import apply_patch, diff
from statestream.core.signature import first_problem
from statestream.core.values import SCALARS, encode, plain

JSON_KINDS: Final = {
    *("any", "bool", "default", "definition-ref", "definitions", "dict", "float", "int", "list", "literal", "none"),
    *("nullable", "str", "tagged-union", "typed-dict", "typed-dict-field", "union"),
}
"""The kinds of pydantic's core schemas whose Python values are the JSON itself."""
HINTS: Final[Mapping[Any, str]] = {
    "typed-dict-version": "import TypedDict from typing_extensions, because Python has all of it only from 3.12 on",
    "class-not-fully-defined": "it names a type that is not known there; declare types at the top of a module, "
    "before the slice",
}
"""What to do about a problem, by pydantic's code of it."""
NO_JSON: Final = "it has something that cannot become JSON"
PARTS: Final = {"extras_schema", "items_schema", "keys_schema", "schema", "values_schema"}
NAMED: Final = ("choices", "definitions", "fields")
"""The members of core schemas in which other ones stand: one each, and several, which may have names."""
_QUOTES: Final = re.compile(r"(?<=value) .*", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class _AsWritten(GenerateJsonSchema):
    """Fields with a default are there as well: they are written like any others."""

    def field_is_required(self, field: Any, total: bool) -> bool:
        omitted = field.get("serialization_exclude_if") is not None
        return super().field_is_required(field, total) or not (omitted or field["type"] == "typed-dict-field")


class Reader(Protocol):
    """What pydantic and msgspec do alike. `plain`: Python values of the type are JSON themselves."""

    plain: bool

    def load(self, data: bytes) -> Any:
        """A Python value of JSON. Raises InvalidValue."""

    def dump(self, value: Any) -> bytes:
        """The JSON of a Python value. It need not be of the type, if that was not one either. Raises InvalidValue."""

    def schema(self) -> dict[str, Any]: ...


class ByPydantic:
    """Types that pydantic knows."""

    def __init__(self, kind: Any) -> None:
        self._adapter = TypeAdapter(kind)
        self.plain = _is_json(self._adapter.core_schema)

    def load(self, data: bytes) -> Any:
        try:
            return self._adapter.validate_json(data, strict=True)
        except ValidationError as error:
            raise InvalidValue(first_problem(error, within=orjson.loads(data))) from None

    def dump(self, value: Any) -> bytes:
        try:
            return self._adapter.dump_json(value, by_alias=True, warnings=False)
        except PydanticSerializationError:
            raise InvalidValue(NO_JSON) from None

    def schema(self) -> dict[str, Any]:
        if self.plain:
            return self._adapter.json_schema()
        return self._adapter.json_schema(mode="serialization", schema_generator=_AsWritten)


class ByMsgspec:
    """Types with Structs."""

    plain = False

    def __init__(self, kind: Any) -> None:
        self._kind, self._decoder = kind, msgspec.json.Decoder(kind)
        self.schema()

    def load(self, data: bytes) -> Any:
        try:
            return self._decoder.decode(data)
        except msgspec.ValidationError as error:
            raise InvalidValue(_first_problem(str(error))) from None

    def dump(self, value: Any) -> bytes:
        try:
            return msgspec.json.encode(value)
        except (TypeError, ValueError, RecursionError):
            raise InvalidValue(NO_JSON) from None

    def schema(self) -> dict[str, Any]:
        schema = msgspec.json.schema(self._kind)
        return schema if _omits(inspect.type_info(self._kind), set()) else _as_written(schema)


class ValueType:
    """The type of the value of one slice, or of what one of its views shows."""

    def __init__(self, kind: Any, what: str) -> None:
        """`what` names the value in messages. Raises TypeError for a type that JSON cannot have."""
        self._what, self._reader = what, _reader(kind, what)
        self.name: str | None = getattr(kind, "__name__", None) if isinstance(kind, type) else None
        """The name of a class; None for other types."""
        self.plain = self._reader.plain
        """Whether the value is used as it is. Otherwise it becomes an object, and objects become the value."""

    def schema(self) -> dict[str, Any]:
        """The value as JSON Schema."""
        return self._reader.schema()

    def check(self, data: bytes) -> None:
        """Raises InvalidValue for the JSON of a value of another type."""
        self._load(data)

    def of(self, value: Any) -> Any:
        """What a program sees of a plain value. Raises InvalidValue."""
        return value if self.plain else self._load(encode(value))

    def load(self, data: bytes) -> Any:
        """The same of the JSON of a value. Raises InvalidValue."""
        return orjson.loads(data) if self.plain else self._load(data)

    def dump(self, value: Any) -> Any:
        """The plain value of what a program has made. Raises InvalidValue, NotJSON."""
        return plain(value if self.plain else orjson.loads(self._dump(value)))

    def first(self, initial: Any) -> Any:
        """The plain value that a slice begins with, given as JSON or as an object. Raises InvalidValue, NotJSON."""
        try:
            value = plain(initial)
        except NotJSON:
            if self.plain:
                raise
            return self.dump(initial)
        return self.dump(self._load(encode(value))) if not self.plain else self._checked(value)

    def handling(self, handler: Callable[..., object]) -> Callable[..., object]:
        """A handler that receives and leaves plain values, of one that receives and leaves values of the type."""
        if self.plain:
            return handler

        @functools.wraps(handler)
        def handling(draft: Any, **arguments: Any) -> object:
            before = bare(draft)
            value = self._load(encode(before))
            result = handler(value, **arguments)
            if result is REMOVED:
                return REMOVED
            after = orjson.loads(self._dump(value if result is None else result))
            operations = diff(before, after)
            if before is draft or len(operations) > MAX_OPS or any(op["path"] == "" for op in operations):
                return after  # a scalar, or all of it is new
            return apply_patch(draft, operations)  # what did not change is shared with the value before

        return handling

    def _dump(self, value: Any) -> bytes:
        """The JSON of an object that fits the type. Raises InvalidValue."""
        try:
            data = self._reader.dump(value)
            self._reader.load(data)
        except InvalidValue as error:
            raise self._invalid(error) from None
        return data

    def _checked(self, value: Any) -> Any:
        self.check(encode(value))
        return value

    def _load(self, data: bytes) -> Any:
        try:
            return self._reader.load(data)
        except InvalidValue as error:
            raise self._invalid(error) from None

    def _invalid(self, error: InvalidValue) -> InvalidValue:
        return InvalidValue(error.problem, self._what)


def _reader(kind: Any, what: str) -> Reader:
    """Raises TypeError."""
    try:
        return ByPydantic(kind)
    except PydanticSchemaGenerationError as error:
        problem: Exception = error
        with contextlib.suppress(TypeError, NameError):
            return ByMsgspec(kind)
    except (PydanticUserError, NameError, TypeError) as error:
        problem = error
    hint = HINTS.get(getattr(problem, "code", None), "use what JSON has, or TypedDicts, dataclasses, models or Structs")
    if isinstance(problem, NameError):
        hint = HINTS["class-not-fully-defined"]
    raise TypeError(f"the type of {what} cannot be read from JSON: {hint}") from problem


def _is_json(schema: Any) -> bool:
    """Whether everything in a core schema of pydantic is of JSON's own kinds."""
    if isinstance(schema, (list, tuple)):
        return all(map(_is_json, schema))
    if not isinstance(schema, Mapping):
        return True
    kind = schema.get("type")
    if kind not in JSON_KINDS or "serialization" in schema:
        return kind is None
    if kind == "literal":
        return all(type(each) in SCALARS for each in schema["expected"])
    if kind == "dict" and schema.get("keys_schema", {"type": "str"})["type"] not in ("any", "literal", "str"):
        return False
    return all(_is_json(part) for name, part in schema.items() if name in PARTS) and all(
        _is_json(part) for name in NAMED for part in _values(schema.get(name))
    )


def _values(named: Any) -> Iterable[Any]:
    return named.values() if isinstance(named, Mapping) else named or ()


def _first_problem(message: str) -> str:
    """A message of msgspec, with a pointer as the place and without the value, which some of them quote."""
    what, _, path = message.partition(" - at `")
    steps = _STEP.findall(path.rstrip("`"))
    place = "".join(f"/{name or index}" for name, index in steps)
    return f"at {place or 'the root'}: {_QUOTES.sub('', what)}"


def _omits(info: Any, seen: set[int]) -> bool:
    """Whether a type of msgspec has a Struct whose fields are not written if they have their default."""
    if id(info) in seen or not isinstance(info, (tuple, inspect.Type, inspect.Field)):
        return False
    seen.add(id(info))
    if isinstance(info, inspect.StructType) and info.cls.__struct_config__.omit_defaults:
        return True
    parts = info if isinstance(info, tuple) else [getattr(info, name) for name in info.__struct_fields__]
    return any(_omits(part, seen) for part in parts)


def _as_written(schema: Any) -> Any:
    """A schema of msgspec in which fields with a default are there as well: they are written like any others."""
    if isinstance(schema, list):
        return [_as_written(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _as_written(each) for key, each in schema.items() if key != "default"}
    if isinstance(fields := schema.get("properties"), dict):
        always = {name for name, each in fields.items() if isinstance(each, dict) and "default" in each}
        found["required"] = [name for name in fields if name in always or name in schema.get("required", ())]
        found["properties"] = {name: _as_written(each) for name, each in fields.items()}
    return found
