"""What a Redis server says about itself, and whether it can keep a journal.

Invariants: only what INFO says is used, because managed servers forbid CONFIG.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from statestream.core.errors import JournalUnusable

OLDEST: Final = 7


class ServerInfo(Struct, frozen=True, kw_only=True):
    """`policy` is what the server does when its memory is full, if that is limited (`maxmemory` is not 0)."""

    version: str
    role: str
    maxmemory: int
    policy: str
    appends: bool
    """Whether it writes an append-only file."""

    @classmethod
    def parse(cls, info: bytes) -> ServerInfo:
        pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
        found = {name: value for name, _, value in pairs}
        return cls(
            version=found.get("redis_version", "0"),
            role=found.get("role", "master"),
            maxmemory=int(found.get("maxmemory", "0")),
            policy=found.get("maxmemory_policy", "noeviction"),
            appends=found.get("aof_enabled") == "1",
        )

    def check(self) -> None:
        """Raises JournalUnusable if a journal there would not work, or would lose what it has acknowledged."""
        major = self.version.partition(".")[0]
        if not major.isdecimal() or int(major) < OLDEST:
            raise JournalUnusable(f"expected Redis {OLDEST} or newer, or Valkey, got version {self.version}")
        if self.role != "master":
            raise JournalUnusable("it is a replica, which accepts no writes; use the URL of the primary")
        if self.policy.startswith("allkeys-"):
            raise JournalUnusable(
                f"its maxmemory-policy is {self.policy}, with which it deletes keys of the journal when its memory is"
                " full; set it to noeviction"
            )
