"""A change as one line: of `history`, of `watch` where there is no terminal, and of its log where there is one.

Invariants: pure. A line says what the frame says, in short; nothing in it can do anything to a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from statestream.tools.commands.text import brief, safe

OPERATIONS: Final = 3
VALUE: Final = 40
PAYLOAD: Final = 200
_SIGNS: Final = {"add": "+", "replace": "~", "remove": "-"}


def clock(timestamp: Any) -> str:
    """Unix ms as this machine's time of day."""
    try:
        return datetime.fromtimestamp(timestamp / 1000).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--.---"


def operations(change: Mapping[str, Any]) -> str:
    """What a change did: `+ /tasks/1 {id: "2"}`, `~ /count 5`, `- /tasks/0`, `= {…}` for a whole value."""
    if "value" in change:
        return f"= {brief(change['value'], VALUE)}"
    if "patches" not in change:
        return "removed"
    return short_patches(change["patches"])


def short_patches(patches: Sequence[Mapping[str, Any]], room: int = 0) -> str:
    """The first operations; with more than one line's `room`, longer values."""
    width = max(VALUE, room // max(1, min(len(patches), OPERATIONS)))
    said = [_operation(patch, width) for patch in patches[:OPERATIONS]]
    more = len(patches) - len(said)
    return "  ".join([*said, *([f"… {more:,} more"] if more else [])])


def _operation(patch: Mapping[str, Any], width: int) -> str:
    sign = _SIGNS.get(patch.get("op", ""), "?")
    value = f" {brief(patch['value'], width)}" if "value" in patch else ""
    return f"{sign} {safe(str(patch.get('path'))) or '/'}{value}"


def by(cause: Mapping[str, Any] | None) -> str:
    """The action's type, and who it was where that is known."""
    if cause is None:
        return ""
    actor = cause.get("actor")
    return safe(str(cause.get("type"))) + ("" if actor is None else f" by {safe(str(actor))}")


def amount(size: int) -> str:
    return f"{size:,} B" if size < 10_000 else f"{size / 1e3:,.1f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def change_line(change: Mapping[str, Any], size: int) -> str:
    """A `state.update`, with its position; with the payload where the cause has it."""
    cause = change.get("cause") or {}
    parts = [
        clock(change.get("timestamp")),
        safe(str(change.get("position"))),
        safe(str(change.get("slice"))),
        by(cause),
        operations(change),
        amount(size),
    ]
    if "payload" in cause:
        parts.append(f"payload {brief(cause['payload'], PAYLOAD)}")
    return "  ".join(part for part in parts if part)
