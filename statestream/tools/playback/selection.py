"""The slices that a client of a served recording may select, and the part of a frame that they leave.

Invariants: a slice that was not recorded is unknown, as an undeclared slice is to a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from statestream.client.recording.recording import Recording
from statestream.client.selection import selection_of
from statestream.core.errors import UnknownSlice
from statestream.core.names import check_name, split_name
from statestream.core.selection import EVERYTHING, Selection


def requested_selection(values: Sequence[str] | None, recording: Recording) -> Selection:
    """The selection of the query's `slices`; without it, everything that was recorded.

    Raises Malformed, UnknownSlice.
    """
    items = [] if values is None else ",".join(values).split(",")
    if not items or "*" in items:
        return EVERYTHING
    recorded = _recorded_slices(recording)
    for item in items:
        name, slash, key = item.partition("/")
        family = f"{check_name(name)}/*" if slash else item
        if key != "*":
            split_name(item)
        if not {item, "*", family} & recorded:
            raise UnknownSlice(f"expected a slice that was recorded ({', '.join(sorted(recorded))}), got {item}")
    return selection_of(items)


def _recorded_slices(recording: Recording) -> set[str]:
    """What the recorded client asked for; if that was every plain slice, the slices of its first state."""
    if recording.slices is not None:
        return set(recording.slices)
    first = next((frame for frame in recording if frame.event.event == "state.initial"), None)
    return set() if first is None else set(orjson.loads(first.event.data)["slices"])


def selected_part(data: dict[str, Any], selection: Selection) -> dict[str, Any] | None:
    """The frame with the selected slices only; None if it is about none of them. Changes `data`."""
    match data["type"]:
        case "state.initial":
            for member in ("slices", "versions"):
                data[member] = {name: value for name, value in data[member].items() if selection.matches(name)}
        case "state.update":
            return data if selection.matches(data["slice"]) else None
        case "state.catchup":
            data["updates"] = [item for item in data["updates"] if selection.matches(item["slice"])]
            return data if data["updates"] else None
    return data
