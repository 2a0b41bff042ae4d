"""How the values of a slice's earlier versions become values of its current one.

A slice has a version. When the shape of its value changes, its version grows by one, and a pure function makes the new
shape of the old one.

Invariants: declarations, and running them. Which version a value in the journal has is known in `store.schemas`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statestream.core.change import REMOVED
from statestream.core.draft import produce
from statestream.core.errors import HandlerFailed, StatestreamError
from statestream.core.functions import check_plain

Upgrade = Callable[[Any], Any]


class Upgrades:
    """The upgrades of one slice, by the version that they lead to. `version` is the slice's current one."""

    def __init__(self, slice_name: str, version: int) -> None:
        if type(version) is not int or version < 1:
            raise ValueError(f"expected the version of {slice_name} as a whole number of at least 1")
        self._slice, self.version = slice_name, version
        self._to: dict[int, Upgrade] = {}

    def add(self, version: int, function: Upgrade) -> None:
        """Declares what leads to a version from the one before. Raises TypeError, ValueError."""
        check_plain(function, f"the upgrade of {self._slice}", "which changes the draft or returns the new value")
        if type(version) is not int or not 1 < version <= self.version:
            raise ValueError(
                f"expected a version from 2 to {self.version} in @{self._slice}.upgrade(…), because {self._slice} is "
                f"declared with version={self.version}"
            )
        if version in self._to:
            raise ValueError(f"{self._slice} has an upgrade to version {version} already")
        self._to[version] = function

    def check(self) -> None:
        """Raises ValueError unless there is an upgrade to every version."""
        missing = [version for version in range(2, self.version + 1) if version not in self._to]
        if missing:
            raise ValueError(
                f"{self._slice} is at version {self.version}, but nothing leads from version {missing[0] - 1} to "
                f"{missing[0]}; declare it with @{self._slice}.upgrade({missing[0]})"
            )

    def run(self, value: Any, version: int) -> Any:
        """The value in its current version, of a value in an earlier one. Raises HandlerFailed."""
        for to in range(version + 1, self.version + 1):
            try:
                value, _ = produce(value, self._to[to])
            except Exception as error:
                how = str(error) if isinstance(error, StatestreamError) else type(error).__name__
                raise HandlerFailed(f"the upgrade of {self._slice} to version {to} failed: {how}") from error
            if value is REMOVED:
                raise HandlerFailed(f"the upgrade of {self._slice} to version {to} returned REMOVED; return a value")
        return value
