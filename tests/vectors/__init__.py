"""Event streams and what a reader must make of them: `sse.json`, for the decoder and for browsers alike.

Law: what is expected there is written from the standard's text, never from what a decoder does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """`raw`, the events in it as (type, data, last event id), and what counts for coming back."""

    name: str
    raw: bytes
    events: tuple[tuple[str, str, str], ...]
    last_id: str
    retry: int | None

    @classmethod
    def all(cls) -> list[Vector]:
        found = json.loads((Path(__file__).parent / "sse.json").read_text())["vectors"]
        return [
            cls(
                name=f"{one['rule']}: {one['name']}",
                raw=one["bytes"].encode("latin-1"),
                events=tuple((kind, data, id) for kind, data, id in one["events"]),
                last_id=one["last_id"],
                retry=one["retry"],
            )
            for one in found
        ]
