"""Which version of its slice a value in the journal has.

Before code with a new version of a slice writes anything, it notes the version in the journal, as an instance of a
hidden slice: `slice_version/board.2` for version 2 of `board`. So a value whose last change is older than that note has
version 1. Whoever writes to a slice depends on the next version not being noted yet. So code that knows only version 1
can write nothing after the note.

Invariants: pure. A note is written once and never changes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

from statestream.core.errors import JournalUnusable
from statestream.core.slices import Slice

NAME: Final = "slice_version"
PREFIX: Final = f"{NAME}/"
NOTES: Final = Slice(NAME, initial={}, keyed=True, internal=True, hidden=True)


def is_note(name: str) -> bool:
    """Whether this instance notes a version: no client is shown it, also where the code declares no versions."""
    return name.startswith(PREFIX)


def note_of(slice_name: str, version: int) -> str:
    """The instance that notes a version of a slice."""
    return f"{PREFIX}{slice_name}.{version}"


class Schemas:
    """The versions that are noted in the journal, and those that this code declares.

    `noted` has, by slice, the seqs at which versions 2, 3 … were noted.
    """

    def __init__(self, declared: Mapping[str, Slice]) -> None:
        self._declared = declared
        self.noted: dict[str, list[int]] = {}

    def load(self, instances: Mapping[str, int]) -> None:
        """Takes the notes from the instances of the hidden slice, with their versions."""
        self.noted.clear()
        for name, seq in sorted(instances.items(), key=lambda each: each[1]):
            self.note(name, seq)

    def note(self, name: str, seq: int) -> None:
        """A version was noted at that position."""
        self.noted.setdefault(name.removeprefix(PREFIX).partition(".")[0], []).append(seq)

    def known(self, slice_name: str) -> int:
        """The newest version of a slice that any code has written, or could have written, to this journal."""
        return 1 + len(self.noted.get(slice_name, ()))

    def version_of(self, name: str, seq: int) -> int:
        """The version of its slice that a value has whose last change is at `seq`."""
        noted = self.noted.get(name.partition("/")[0])
        return 1 if noted is None else 1 + bisect_left(noted, seq)

    def is_old(self, name: str, seq: int) -> bool:
        """Whether a value whose last change is at `seq` is of an earlier version than this code declares."""
        declared = self._declared.get(name.partition("/")[0])
        return declared is not None and self.version_of(name, seq) < declared.upgrades.version

    def outdated(self) -> list[str]:
        """The slices to which newer code has written."""
        return [name for name in self.noted if self.is_outdated(name)]

    def is_outdated(self, name: str) -> bool:
        """Whether newer code has written to a slice."""
        declared = self._declared.get(name) if name in self.noted else None
        return declared is not None and self.known(name) > declared.upgrades.version

    def check(self) -> None:
        """Raises JournalUnusable if newer code has written to one of the slices."""
        for name in self.outdated():
            declared = self._declared[name].upgrades.version
            raise JournalUnusable(
                f"the journal has version {self.known(name)} of the slice {name}, but this code declares version "
                f"{declared}; deploy the newer code, or restore a backup from before it ran"
            )
