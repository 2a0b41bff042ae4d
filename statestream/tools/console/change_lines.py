"""A change in one line: of `history`, of `watch` without a terminal, and of its log with one.

Invariants: pure. A line is a short form of the frame; nothing in it can control a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from statestream.tools.console.text import brief, safe

MAX_OPERATIONS: Final = 3
VALUE_WIDTH: Final = 40
PAYLOAD_WIDTH: Final = 200
_SIGNS: Final = {"add": "+", "replace": "~", "remove": "-"}


def time_of_day(timestamp: Any) -> str:
    """Unix ms as the local time of day. A server may send anything, so the result may be dashes."""
    try:
        return datetime.fromtimestamp(timestamp / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--.---"


def operations(change: Mapping[str, Any]) -> str:
    """The effect of a change: `+ /tasks/1 {id: "2"}`, `~ /count 5`, `- /tasks/0`, or `= {…}` for a whole value."""
    if "value" in change:
        return f"= {brief(change['value'], VALUE_WIDTH)}"
    if "patches" not in change:
        return "removed"
    return short_patches(change["patches"])


def short_patches(patches: Sequence[Mapping[str, Any]], room: int = 0) -> str:
    """The first operations. If there is more `room` than one line has, their values are longer."""
    width = max(VALUE_WIDTH, room // max(1, min(len(patches), MAX_OPERATIONS)))
    shown = [_operation(patch, width) for patch in patches[:MAX_OPERATIONS]]
    more = len(patches) - len(shown)
    return "  ".join([*shown, *([f"… {more:,} more"] if more else [])])


def _operation(patch: Mapping[str, Any], width: int) -> str:
    sign = _SIGNS.get(patch.get("op", ""), "?")
    value = f" {brief(patch['value'], width)}" if "value" in patch else ""
    return f"{sign} {safe(str(patch.get('path'))) or '/'}{value}"


def cause_text(cause: Mapping[str, Any] | None) -> str:
    """The type of the action, and its actor if there is one."""
    if cause is None:
        return ""
    actor = cause.get("actor")
    return safe(str(cause.get("type"))) + ("" if actor is None else f" by {safe(str(actor))}")


def byte_count(size: int) -> str:
    return f"{size:,} B" if size < 10_000 else f"{size / 1e3:,.1f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def change_line(change: Mapping[str, Any], size: int) -> str:
    """A `state.update` of `size` bytes with its position; with the payload if the cause contains it."""
    cause = change.get("cause") or {}
    parts = [
        time_of_day(change.get("timestamp")),
        safe(str(change.get("position"))),
        safe(str(change.get("slice"))),
        cause_text(cause),
        operations(change),
        byte_count(size),
    ]
    if "payload" in cause:
        parts.append(f"payload {brief(cause['payload'], PAYLOAD_WIDTH)}")
    return "  ".join(part for part in parts if part)
