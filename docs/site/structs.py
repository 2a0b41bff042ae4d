"""Adds the signatures of Structs to the reference: griffe reads the source, in which a Struct has no `__init__`."""

from __future__ import annotations

from typing import Any

import griffe


def _default(value: Any) -> Any:
    """The default to show: `dict()` for `field(default_factory=dict)`."""
    if not isinstance(value, griffe.ExprCall) or str(value.function) != "field":
        return value
    given = {part.name: part.value for part in value.arguments if isinstance(part, griffe.ExprKeyword)}
    return f"{given['default_factory']}()" if "default_factory" in given else given.get("default")


class Structs(griffe.Extension):
    """Gives every Struct its `__init__`, which takes the fields as keyword arguments."""

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        if "__init__" in cls.members or all(str(base) != "Struct" for base in cls.bases):
            return
        parameters = [griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)]
        for field in cls.members.values():
            if isinstance(field, griffe.Attribute) and field.annotation is not None and "property" not in field.labels:
                kind = griffe.ParameterKind.keyword_only
                default = _default(field.value)
                parameters.append(griffe.Parameter(field.name, annotation=field.annotation, kind=kind, default=default))
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*parameters)))
