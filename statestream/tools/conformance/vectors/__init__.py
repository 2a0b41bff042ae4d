"""Event streams and what a reader must make of them: `sse.json`, for the decoder and for browsers alike.

Invariants: what is expected there is written from the standard's text, never from what a decoder does.
"""

from __future__ import annotations

from importlib import resources

import orjson
from msgspec import Struct


class Vector(Struct, frozen=True, kw_only=True):
    """`raw`, the events in it as (type, data, last event id), and what counts for coming back."""

    name: str
    raw: bytes
    events: tuple[tuple[str, str, str], ...]
    last_id: str
    retry: int | None

    @classmethod
    def all(cls) -> list[Vector]:
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
    """The file as it is."""
    return resources.files(__name__).joinpath("sse.json").read_bytes()
