"""The body of GET /state, for one reader of a document.

Invariants: a reader is told about the slices that they may know, as they see them, and about no others. A value is
described by the type of its slice; one without a type may be any JSON. Values of the past may have had another type.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from statestream.core.slices import Slice
from statestream.core.value_type import ValueType
from statestream.protocol.frame_types import FullName, PositionText, Version
from statestream.server.contract import Schema
from statestream.server.schemas import Schemas, reference, untitled


class Selected(TypedDict):
    """The selected slices at one position."""

    position: PositionText
    slices: dict[FullName, Any]
    versions: dict[FullName, Version]


def selected(schemas: Schemas, slices: list[tuple[Slice, ValueType | None]]) -> Schema:
    """The schema of the body for a reader who may know these slices. Adds a schema for each value to `schemas`."""
    schema = untitled(TypeAdapter(Selected).json_schema())
    schema["properties"]["slices"] |= _by_name(schemas, slices)
    schemas.add("Selected", schema)
    return reference("Selected")


def _by_name(schemas: Schemas, slices: list[tuple[Slice, ValueType | None]]) -> Schema:
    plain, keyed = dict[str, Schema](), dict[str, Schema]()
    for declared, kind in slices:
        value = schemas.own(_name(declared), {} if kind is None else untitled(kind.schema()))
        if declared.keyed:
            keyed[f"^{declared.name}/"] = value
        else:
            plain[declared.name] = value
    return {"properties": plain, "patternProperties": keyed}


def _name(declared: Slice) -> str:
    """A name for a component. Those of actions begin with the name of a slice, so with a small letter."""
    return f"State.{declared.name}"
