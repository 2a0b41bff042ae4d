"""Tells of values in the journal that do not fit the type of their slice.

Such a value was written by code that declared another type, or none. The store still shows it, because a declaration
must not make the state of an application inaccessible. But handlers that receive objects fail on it.

Invariants: a value is checked when it is loaded, and never changed. An instance that leaves the memory and returns as
it was is not news.
"""

from __future__ import annotations

import logging
from typing import Final

from statestream.core.change import SliceState
from statestream.core.errors import InvalidValue
from statestream.core.slices import Slice
from statestream.store.registry import HandlerRegistry

log = logging.getLogger("statestream")

NAMED: Final = 20
"""The instances of a slice that are logged by name: there may be a hundred thousand."""


class Misfits:
    """Logs values that do not fit."""

    def __init__(self, registry: HandlerRegistry) -> None:
        self._registry = registry
        self._logged: dict[str, dict[str, int]] = {}
        """The instances of each slice that were logged, with their versions."""

    def look(self, name: str, state: SliceState) -> None:
        """Call it with what was loaded."""
        declared = self._registry.slices.get(name.partition("/")[0])
        problem = None if declared is None else misfit(declared, name, state)
        if declared is None or problem is None:
            return
        logged = self._logged.setdefault(declared.name, {})
        if logged.get(name) == state.version or len(logged) > NAMED:
            return
        logged[name] = state.version
        if len(logged) > NAMED:
            log.error("more values of %s do not fit its type; `statestream check` lists them", declared.name)
        else:
            log.error("%s; declare a new version of the slice with an upgrade", problem)


def misfit(declared: Slice, name: str, state: SliceState) -> str | None:
    """Why a value does not fit the type of its slice; None if it does."""
    if declared.type is None:
        return None
    try:
        declared.type.check(state.encoded())
    except InvalidValue as error:
        return f"{name} in the journal does not fit the type of its slice: {error.problem}"
    return None
