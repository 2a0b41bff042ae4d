"""Which blobs a chat has that names none: those beside its journal, if that is on this machine.

Invariants: a file must not be lost, or be on one node of several only. So there is no default for a journal that other
machines reach.
"""

from __future__ import annotations

from statestream.chat.blobs import Blobs
from statestream.chat.blobs.folder import FolderBlobs


def default_blobs(journal: object) -> Blobs | None:
    """A folder beside a SQLite journal, a temporary one for a journal in memory, and None for any other.

    A journal has a folder if it has the attribute `files_folder`.
    """
    folder = getattr(journal, "files_folder", None)
    return None if folder is None else FolderBlobs(folder)
