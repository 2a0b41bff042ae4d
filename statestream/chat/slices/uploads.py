"""The slice `chat_uploads`: files that were stored, or are being stored, and that no message has yet.

    chat_uploads/<chat>  {"files": {<file>: {"mediaType", "size", "filename"?, "at", "stored"?, "leaving"?}}}

A file is noted before its bytes are written, and leaves when a message has it. If it stays for a day, because its
sender never asked or the process was killed, its bytes are deleted: first the entry is `leaving`, then the bytes go,
then the entry. An instance exists while it has entries, so the files to delete are found without a look at every chat.

Invariants: the slice is hidden. Bytes without an entry here or in `chat_files` are those of no chat. A file that is
`leaving` cannot become part of a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from typing_extensions import NotRequired, TypedDict

from statestream.chat.slices.conversation import deleted
from statestream.core.change import REMOVED, Action
from statestream.core.errors import Refused
from statestream.core.selection import Selection
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "chat_uploads"
MAX_WAITING: Final = 200
"""Files of a chat that no message has yet."""
GONE: Final = "file_gone"
"""The code of the refusal if a file is not there any more."""
DELETED: Final = "This chat was deleted."

uploads_slice = Slice(NAME, initial={"files": {}}, keyed=True, internal=True, hidden=True)


class FileEntry(TypedDict):
    """What is known of a file beside its bytes. `size`: until it is stored, the most that it can have."""

    mediaType: str
    size: int
    filename: NotRequired[str]


def name_of(key: str) -> str:
    return f"{NAME}/{key}"


@uploads_slice.action
def begun(state: Any, action: Action, *, file: str, entry: FileEntry, room: int) -> None:
    """A file is about to be stored. `room`: the bytes that the files in this slice can have in all.

    Changes nothing if it is noted already, as when a request is repeated.
    """
    files = state["files"]
    if file in files:
        if "leaving" in files[file]:
            raise Refused(GONE, "This file is being deleted. Try again in a moment.")
        return
    if len(files) >= MAX_WAITING:
        raise Refused(
            "too_many_files",
            "Too many uploaded files of this chat are not in a message yet. Ask a question with them first.",
        )
    if sum(each["size"] for each in files.values()) + entry["size"] > room:
        raise Refused("no_room", "The files of this chat have reached their size limit.")
    files[file] = {**entry, "at": action.at}


@uploads_slice.action
def stored(state: Any, *, file: str, size: int) -> None:
    """The bytes are there. Refused if the chat was deleted meanwhile."""
    entry = state["files"].get(file)
    if entry is None or "leaving" in entry:
        raise Refused(GONE, DELETED)
    entry["size"], entry["stored"] = size, True


@uploads_slice.action
def taken(state: Any, *, files: list[str]) -> Any:
    """A message has these files now."""
    for file in files:
        entry = state["files"].get(file)
        if entry is None or "stored" not in entry or "leaving" in entry:
            raise Refused(GONE, "This file no longer exists. Upload it again.")
        del state["files"][file]
    return None if state["files"] else REMOVED


@uploads_slice.action
def leaving(state: Any, *, files: list[str]) -> Any:
    """The bytes of these files are about to be deleted."""
    for file in files:
        if file in state["files"]:
            state["files"][file]["leaving"] = True
    return None if state["files"] else REMOVED


@uploads_slice.action
def left(state: Any, *, files: list[str]) -> Any:
    """The bytes of these files were deleted, or never were there."""
    for file in files:
        state["files"].pop(file, None)
    return None if state["files"] else REMOVED


@uploads_slice.on(deleted)
def _deleted(state: Any) -> Any:
    return REMOVED


def waiting_in(view: StoreView, key: str) -> Mapping[str, Any]:
    """The entries of a chat. Raises NotLoaded."""
    state = view.get(name_of(key))
    found: Mapping[str, Any] = {} if state is None else state.value["files"]
    return found


def chats(view: StoreView) -> list[str]:
    """The chats that have such files."""
    return [name.partition("/")[2] for name in view.versions(Selection.family(NAME))]


def older_than(files: Mapping[str, Any], before: int) -> list[str]:
    """The files that were noted before that time, or that are leaving already."""
    return [file for file, entry in files.items() if entry["at"] < before or "leaving" in entry]


def total(files: Iterable[Mapping[str, Any]]) -> int:
    """The bytes of files."""
    return sum(int(entry["size"]) for entry in files)
