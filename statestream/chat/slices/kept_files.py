"""The slice `chat_files`: the files that the messages of a chat have.

    chat_files/<chat>  {"files": {<file>: {"mediaType", "size", "filename"?}}}

The request that adds the message adds its files. Their bytes are among the blobs, under the same id.

Invariants: the slice is hidden. A file stays as long as its chat, because messages do: they move to the archive, but
are never deleted alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from statestream.chat.slices.conversation import deleted
from statestream.chat.slices.uploads import FileEntry
from statestream.core.change import REMOVED
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "chat_files"

kept_files_slice = Slice(NAME, initial={"files": {}}, keyed=True, internal=True, hidden=True)


@kept_files_slice.action
def kept(state: Any, *, files: dict[str, FileEntry]) -> None:
    """A message has these files."""
    for file, entry in files.items():
        state["files"].setdefault(file, entry)


@kept_files_slice.on(deleted)
def _deleted(state: Any) -> Any:
    return REMOVED


def name_of(key: str) -> str:
    return f"{NAME}/{key}"


def kept_in(view: StoreView, key: str) -> Mapping[str, Any]:
    """The entries of a chat. Raises NotLoaded."""
    state = view.get(name_of(key))
    found: Mapping[str, Any] = {} if state is None else state.value["files"]
    return found
