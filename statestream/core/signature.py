"""The payload of an action, as the annotations of its handler describe it.

Invariants: pure. A handler's parameters are its contract with clients: `state` first, then the fields of the payload,
and `action` if the handler wants it. No message contains what a client has sent.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, cast, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from pydantic_core import ErrorDetails, core_schema
from typing_extensions import NotRequired, Required, TypedDict

from statestream.core.errors import InvalidPayload
from statestream.core.suggestions import instead
from statestream.core.values import escape, plain, scalar_of

_OWN_MESSAGES: Final = frozenset(get_args(core_schema.ErrorType))
"""The problems whose messages pydantic knows. They have no value but the one of a tag."""


class Signature:
    """The payload of an action that a handler expects, from its annotations.

    `ignore_extra` is for handlers of another slice's action, which name only the fields that they need.
    """

    def __init__(self, handler: Callable[..., object], action_type: str, *, ignore_extra: bool) -> None:
        self._action_type = action_type
        fields: dict[str, Any] = {}
        extra = "ignore" if ignore_extra else "forbid"
        self.wants_action = False
        self._reserved: set[str] = set()
        parameters = list(inspect.signature(handler).parameters.values())
        if not parameters or parameters[0].kind not in (
            parameters[0].POSITIONAL_ONLY,
            parameters[0].POSITIONAL_OR_KEYWORD,
        ):
            raise TypeError(f"the first parameter of the handler {handler.__qualname__} must be the state")
        try:
            hints = get_type_hints(handler, include_extras=True)
        except NameError as error:
            raise TypeError(
                f"an annotation of {handler.__qualname__} cannot be resolved where it is written: {error}"
            ) from None
        for parameter in parameters[1:]:
            if parameter.name == "action":
                self.wants_action = True
            elif parameter.kind is parameter.VAR_KEYWORD:
                extra = "allow"
                self._reserved = {parameters[0].name, "action"}
            elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(
                    f"the parameter {parameter} of {handler.__qualname__} cannot be a payload's field: it has no name"
                )
            else:
                need = Required if parameter.default is parameter.empty else NotRequired
                fields[parameter.name] = need[hints.get(parameter.name, Any)]
        make_typed_dict: Any = TypedDict
        self._fields = tuple(fields)
        payload = make_typed_dict(handler.__name__, fields)
        payload.__pydantic_config__ = ConfigDict(extra=cast("Any", extra), strict=True)
        try:
            self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(payload)
        except PydanticSchemaGenerationError as error:
            raise TypeError(f"the annotations of {handler.__qualname__} cannot be filled from JSON: {error}") from error

    def load(self, payload: bytes) -> dict[str, Any]:
        """New keyword arguments from the JSON of a payload. Raises InvalidPayload with the place."""
        try:
            arguments = self._adapter.validate_json(payload)
        except ValidationError as error:
            raise self._invalid(error) from None
        for name in self._reserved & arguments.keys():
            raise InvalidPayload(
                f"{self._action_type}: at /{name}: the name is reserved by the handler; use another one"
            )
        return arguments

    def schema(self) -> dict[str, Any]:
        """The payload as JSON Schema."""
        return self._adapter.json_schema()

    def dump(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The payload of keyword arguments as plain JSON. Raises InvalidPayload, NotJSON."""
        try:
            checked = self._adapter.validate_python(arguments)
        except ValidationError:
            try:  # a state may also contain the scalars of other libraries
                checked = self._adapter.validate_python(_with_scalars(arguments))
            except ValidationError as error:
                raise self._invalid(error) from None
        return cast("dict[str, Any]", plain(self._adapter.dump_python(checked, mode="json")))

    def _invalid(self, error: ValidationError) -> InvalidPayload:
        return InvalidPayload(f"{self._action_type}: {first_problem(error, lambda _: self._fields)}")


def _with_scalars(value: Any) -> Any:
    """The same with Python's own numbers instead of those of other libraries."""
    if type(value) is dict:
        return {key: _with_scalars(item) for key, item in value.items()}
    if type(value) is list:
        return [_with_scalars(item) for item in value]
    return scalar_of(value)


def first_problem(
    error: ValidationError,
    fields_at: Callable[[Sequence[Any]], Collection[str]] | None = None,
    *,
    within: Any = None,
) -> str:
    """The first problem that pydantic found, with its place but without the value that was given.

    An unknown field comes first: it is often the misspelt name of a missing one. `fields_at` returns the names of those
    that do exist at a place. `within` is the JSON that was checked, if its type may have alternatives: pydantic adds
    their names to places.
    """
    problems = error.errors(include_url=False, include_input=False)
    first = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    steps = first["loc"] if within is None else _steps(first["loc"], within)
    place = "".join(f"/{escape(str(part))}" for part in steps)
    what = first["msg"]
    if first["type"] == "extra_forbidden":
        *around, name = first["loc"]
        what = f"there is no such field{instead(str(name), fields_at(around), 'fields') if fields_at else ''}"
    elif first["type"] in ("model_type", "dict_type"):
        what = "expected a JSON object"
    elif first["type"] == "union_tag_invalid":  # it quotes the tag that was given
        what = f"expected one of the tags {what.rpartition(' tags: ')[2]}"
    elif _may_quote(first):
        what = "the value is not valid"
    return f"at {place or 'the root'}: {what}"


def _may_quote(problem: ErrorDetails) -> bool:
    """Whether the message may have the value: pydantic takes over what libraries say, and fills in texts of its own.

    What a validator of an application says with a ValueError or an AssertionError is for clients.
    """
    error = problem.get("ctx", {}).get("error")
    if isinstance(error, Exception):
        return type(error) not in (ValueError, AssertionError)
    return problem["type"] not in _OWN_MESSAGES and "ctx" in problem


def _steps(location: Sequence[str | int], value: Any) -> Iterator[str | int]:
    """The steps of a location that lead from container to container, and the name of a missing member."""
    for number, step in enumerate(location, 1):
        if isinstance(value, dict) and (str(step) in value or number == len(location)):
            yield step
            value = value.get(str(step))
        elif isinstance(value, list) and isinstance(step, int):
            yield step
            value = value[step] if step < len(value) else None
