"""The names of a journal's keys on a Redis server. `lua/keys.lua` says what each of them holds.

Invariants: the namespace is the hash tag of all keys, so that a Redis Cluster keeps them in one slot, on one server,
where one script can use all of them. No other key is ever read or written.
"""

from __future__ import annotations

import re
from typing import Final

NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_PARTS: Final = (
    *("meta", "changes", "versions", "ids", "ages", "rows", "values"),
    *("checkpoints", "superseded", "replaced", "erased"),
)


def keys_of(namespace: str) -> list[bytes]:
    """All keys, in the order in which the scripts expect them."""
    return [f"{{{namespace}}}:{part}".encode() for part in _PARTS]


def changes_key(namespace: str) -> bytes:
    """The stream with the changes, which also wakes those who wait for more."""
    return keys_of(namespace)[1]
