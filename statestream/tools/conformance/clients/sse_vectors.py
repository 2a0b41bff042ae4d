"""Event streams and the events that a reader must find in them, from `sse_vectors.json`.

Invariants: what is expected is written from the standard's text, never from what a decoder does.
"""

from __future__ import annotations

from importlib import resources

import orjson
from msgspec import Struct


class SseVector(Struct, frozen=True, kw_only=True):
    """`raw` bytes, the events in them as (type, data, last event id), and what a client must remember to reconnect."""

    name: str
    raw: bytes
    events: tuple[tuple[str, str, str], ...]
    last_id: str
    retry: int | None

    @classmethod
    def all(cls) -> list[SseVector]:
        return [
            cls(
                name=f"{one['rule']}: {one['name']}",
                raw=one["bytes"].encode("latin-1"),
                events=tuple((kind, data, id) for kind, data, id in one["events"]),
                last_id=one["last_id"],
                retry=one["retry"],
            )
            for one in orjson.loads(text())["vectors"]
        ]


def text() -> bytes:
    """The file."""
    return resources.files(__package__ or "").joinpath("sse_vectors.json").read_bytes()
