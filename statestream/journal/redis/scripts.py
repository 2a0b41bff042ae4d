"""The Lua scripts of a Redis journal: each is a transaction, because Redis runs nothing else meanwhile.

They are run with EVALSHA, not loaded as functions: a script belongs to the code that sends it, so two versions of
statestream can share a server, and a server that has lost its scripts, in a restart or a failover, is sent them again.

Invariants: every access to data is a script without the flag `no-writes`, reads included. A replica refuses such
scripts, and a replica may lag behind, which must not look like a history that lost its tail. Scripts that need no
memory may run when it is exhausted. No script loops longer than its arguments say, or than a few nodes of the stream
have entries.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

FORMAT: Final = 1
"""The version of what the keys hold."""
REPLACED_FORMAT: Final = 2
"""The version once something was erased or folded. Code that does not know it would miss chunks that were moved."""
RECORD_BYTES: Final = 200
"""The memory that an idempotency record takes beside its contents, in the hash and in the list."""
_CONSTANTS: Final = f'local FORMAT, REPLACED_FORMAT, RECORD_BYTES = "{FORMAT}", "{REPLACED_FORMAT}", {RECORD_BYTES}\n'


class Script:
    """The file `lua/<name>.lua`, after the files that it uses."""

    def __init__(self, name: str, *uses: str, allow_oom: bool = False) -> None:
        folder = resources.files("statestream.journal.redis").joinpath("lua")
        parts = [folder.joinpath(f"{part}.lua").read_text() for part in ("keys", *uses, name)]
        first = "#!lua flags=allow-oom\n" if allow_oom else "#!lua\n"
        self.text = (first + _CONSTANTS + "".join(parts)).encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


_PLACE: Final = ("chunks", "position")
_ERASURES: Final = (*_PLACE, "unfinished")
_KNOWN: Final = (*_PLACE, "known")

APPEND: Final = Script("append", *_ERASURES, "slices", "forgetting")
READ: Final = Script("read", *_ERASURES, allow_oom=True)
HEAD: Final = Script("head", *_PLACE, allow_oom=True)
LOOKUP: Final = Script("lookup", "unfinished", allow_oom=True)
POINTS: Final = Script("points", allow_oom=True)
SAVE: Final = Script("save", *_PLACE)
COMPLETE: Final = Script("complete", *_PLACE)
SAVED: Final = Script("saved", allow_oom=True)
TRIM: Final = Script("trim", *_PLACE, allow_oom=True)
CLEAR: Final = Script("clear", allow_oom=True)
TIDY: Final = Script("tidy", *_PLACE, "forgetting", allow_oom=True)
BEGIN: Final = Script("begin", *_PLACE, "slices")
ADOPT: Final = Script("adopt", *_PLACE, "slices", "forgetting")
SCAN: Final = Script("scan", allow_oom=True)
WRITABLE: Final = Script("writable")

HELD: Final = Script("held", allow_oom=True)
ERASE: Final = Script("erase", *_PLACE, "slices")
PENDING: Final = Script("pending", *_ERASURES, allow_oom=True)
SEARCH: Final = Script("search", *_PLACE, allow_oom=True)
BATCH: Final = Script("batch", *_PLACE, allow_oom=True)
REPLACE: Final = Script("replace", *_KNOWN, "keep")
UNSAVE: Final = Script("unsave", *_KNOWN, allow_oom=True)
NAMED: Final = Script("named", allow_oom=True)
REWRITE: Final = Script("rewrite", *_KNOWN)
FINISH: Final = Script("finish", *_KNOWN, allow_oom=True)
COMPACTED: Final = Script("compacted", allow_oom=True)

FIND: Final = Script("find", *_PLACE, allow_oom=True)
BUNDLE: Final = Script("bundle", *_PLACE, "keep")
FOLD: Final = Script("fold", *_PLACE, "keep")
NOTE: Final = Script("note", *_PLACE)
NOTED: Final = Script("noted", allow_oom=True)
