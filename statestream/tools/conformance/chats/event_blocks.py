"""The bytes of an event stream, split into blocks, and the JSON in a block.

Invariants: pure. Wherever the bytes are split, the blocks are the same. A block counts only when it is complete, and
must be in the one form that the clients of all protocols parse: a `data:` line and two line feeds.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from statestream.tools.conformance.violation import Violation, expect

END: Final = b"\n\n"
DATA: Final = b"data: "
SHOWN_BYTES: Final = 120


class EventBlocks:
    """`feed` returns the blocks that these bytes complete, without their ends. Comments are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *blocks, self._rest = (self._rest + data).split(END)
        return [block for block in blocks if not block.startswith(b":")]


def text_of(frame: bytes) -> str:
    """Raises Violation if the frame is not UTF-8."""
    try:
        return frame.decode()
    except UnicodeDecodeError:
        raise Violation(f"expected UTF-8, got {shown(frame)}") from None


def value_of(frame: bytes) -> Any:
    """The JSON of a frame. Raises Violation if it is none; half a surrogate pair is none."""
    try:
        return orjson.loads(text_of(frame))
    except orjson.JSONDecodeError:
        raise Violation(f"expected JSON, got {shown(frame)}") from None


def data_of(block: bytes) -> bytes:
    """What is in the `data:` line of a block. Raises Violation if the block has another form."""
    one_line = block.startswith(DATA) and b"\n" not in block and b"\r" not in block
    expect(one_line, f"expected one data line in a block, got {shown(block)}")
    return block.removeprefix(DATA)


def object_of(frame: bytes) -> dict[str, Any]:
    """The JSON object in a frame, none of whose members may be null. Raises Violation."""
    value = value_of(frame)
    expect(type(value) is dict and type(value.get("type")) is str, f"expected an object with a type, got {value!r}")
    empty = [name for name, member in value.items() if member is None and name not in NULLABLE]
    expect(not empty, f"expected no null in a {value['type']}, got {', '.join(empty)}")
    found: dict[str, Any] = value
    return found


NULLABLE: Final = ("input", "output", "data", "value", "result", "snapshot")
"""Members that hold any JSON."""


def shown(frame: bytes) -> str:
    return repr(frame if len(frame) <= SHOWN_BYTES else frame[:SHOWN_BYTES] + b"...")
