"""The Lua scripts of a Redis journal: each is a transaction, because Redis runs nothing else meanwhile.

They are run with EVALSHA, not loaded as functions: a script belongs to the code that sends it, so two versions of
statestream can share a server, and a server that has lost its scripts, in a restart or a failover, is sent them again.

Invariants: every access to data is a script without the flag `no-writes`, reads included. A replica refuses such
scripts, and a replica may lag behind, which must not look like a history that lost its tail. Scripts that need no
memory may run when it is exhausted. No script loops longer than its arguments say.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

FORMAT: Final = 1
"""The version of what the keys hold."""
RECORD_BYTES: Final = 200
"""The memory that an idempotency record takes beside its contents, in the hash and in the list."""
_CONSTANTS: Final = f'local FORMAT, RECORD_BYTES = "{FORMAT}", {RECORD_BYTES}\n'


class Script:
    """The file `lua/<name>.lua`, after the files that it uses."""

    def __init__(self, name: str, *uses: str, allow_oom: bool = False) -> None:
        folder = resources.files("statestream.journal.redis").joinpath("lua")
        parts = [folder.joinpath(f"{part}.lua").read_text() for part in ("keys", *uses, name)]
        first = "#!lua flags=allow-oom\n" if allow_oom else "#!lua\n"
        self.text = (first + _CONSTANTS + "".join(parts)).encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


APPEND: Final = Script("append", "position", "slices", "forgetting")
READ: Final = Script("read", "position", allow_oom=True)
HEAD: Final = Script("head", "position", allow_oom=True)
LOOKUP: Final = Script("lookup", allow_oom=True)
POINTS: Final = Script("points", allow_oom=True)
SAVE: Final = Script("save", "position")
COMPLETE: Final = Script("complete", "position")
SAVED: Final = Script("saved", allow_oom=True)
TRIM: Final = Script("trim", "position", allow_oom=True)
CLEAR: Final = Script("clear", allow_oom=True)
TIDY: Final = Script("tidy", "position", "forgetting", allow_oom=True)
BEGIN: Final = Script("begin", "position", "slices")
ADOPT: Final = Script("adopt", "position", "slices", "forgetting")
SCAN: Final = Script("scan", allow_oom=True)
WRITABLE: Final = Script("writable")
