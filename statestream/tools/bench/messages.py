"""What the measurement tells its workers: their assignment, and the schedule of the changes.

They travel as JSON lines over the standard input of a worker process. Its answers come over its standard output.

Invariants: plain data. Times are nanoseconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Assignment(Struct, frozen=True, kw_only=True):
    """The readers of a worker. At most `at_once` of them connect at a time.

    Reader k connects from the address `sources[k % len(sources)]`, or from any address if there are none. `run` is the
    prefix of the ids of this run's actions. A reader that has the state is lost after `silence` seconds without a byte.
    """

    family: int
    address: list[Any]
    tls: str | None
    request: str
    readers: int
    at_once: int
    sources: list[str]
    run: str
    silence: float


class Schedule(Struct, frozen=True, kw_only=True):
    """Change n is due at `first_ns + n * apart_ns`."""

    first_ns: int
    apart_ns: int
    changes: int

    def due(self, number: int) -> int:
        return self.first_ns + number * self.apart_ns
