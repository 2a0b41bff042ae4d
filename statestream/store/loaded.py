"""The committed slices: the names and versions of all that exist, and the values of those that are in memory.

A plain slice is always in memory. The value of an instance may be away: it is in the journal, and is fetched when
somebody reads or writes it. Synchronous code reads as if everything were in memory. If it meets a value that is away,
`get` raises NotLoaded; whoever awaits fetches the names, and runs the same code again.

Invariants: names and versions are complete, so what exists, and at which version, is known without a value. What is
held is never unloaded, and what is held and in memory stays current. A value in memory is that of the version.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from statestream.core.change import SliceState
from statestream.core.selection import EVERYTHING, Selection
from statestream.store.schemas import NAME as NOTES

Instances = dict[str, dict[str, int]]
"""The versions of the instances of each family, by their full names: so that a family is found without the others."""


class NotLoaded(BaseException):
    """The values of `names` are needed, and away. Never leaves the code that awaits.

    It is no Exception, because it also passes through rules, which are an application's code and may catch those.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        super().__init__(f"{len(self.names)} instances are not in memory")


class LoadedSlices:
    """The slices of a node. `instances` has the versions of all instances. `whole`: every value stays in memory."""

    def __init__(self) -> None:
        self.instances: Instances = {}
        self.whole = False
        self._plain: dict[str, None] = {}
        self._states: dict[str, SliceState] = {}
        self._used: dict[str, int] = {}
        """When the values in memory were last used, in turns."""
        self._turn = 0
        self._held: Counter[str] = Counter()
        self._held_families: Counter[str] = Counter()

    # reading

    def get(self, name: str) -> SliceState | None:
        """The state of a slice or instance; None if it does not exist. Raises NotLoaded."""
        state = self._states.get(name)
        if state is None:
            if "/" in name and name in self.instances.get(name.partition("/")[0], ()):
                raise NotLoaded((name,))
            return None
        self._used[name] = self._turn
        return state

    def value(self, name: str) -> Any:
        """The value of a slice or instance; None if it does not exist. Raises NotLoaded."""
        state = self.get(name)
        return None if state is None else state.value

    def peek(self, name: str) -> SliceState | None:
        """The same if it is in memory, which is no use of it; else None."""
        return self._states.get(name)

    def version(self, name: str) -> int:
        """The version of a slice or instance; 0 if it does not exist."""
        state = self._states.get(name)
        if state is not None:
            return state.position.seq
        return self.instances.get(name.partition("/")[0], {}).get(name, 0) if "/" in name else 0

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.version(name) > 0

    def names(self, selection: Selection) -> Iterator[str]:
        """The selected ones that exist. Everything does not include the notes of versions."""
        if selection.everything:
            yield from self._plain
            for name, family in self.instances.items():
                if name != NOTES:
                    yield from family
            return
        yield from (name for name in sorted(selection.names) if name in self)
        for name in sorted(selection.families):
            yield from self.instances.get(name, ())

    def count(self, selection: Selection) -> int:
        """How many of the selected ones exist."""
        if selection.everything:
            return len(self._plain) + sum(len(each) for name, each in self.instances.items() if name != NOTES)
        families = sum(len(self.instances.get(family, ())) for family in selection.families)
        return families + sum(name in self for name in selection.names)

    def versions(self, selection: Selection) -> dict[str, int]:
        """The versions of the selected ones that exist, as a new dict."""
        names = self._plain if selection.everything else selection.names
        found = {name: version for name in names if (version := self.version(name))}
        for family in self.instances if selection.everything else selection.families:
            if family != NOTES or not selection.everything:
                found.update(self.instances.get(family, {}))
        return found

    @property
    def complete(self) -> bool:
        """Whether no value is away."""
        return len(self._states) == len(self._plain) + sum(map(len, self.instances.values()))

    def missing(self, names: Iterable[str]) -> set[str]:
        """Those that exist, and whose values are away."""
        return {name for name in names if name not in self._states and name in self}

    # changing

    def put(self, name: str, state: SliceState) -> None:
        """The slice or instance has this state now."""
        self._states[name] = state
        self._used[name] = self._turn
        family, slash, _ = name.partition("/")
        if slash:
            self.instances.setdefault(family, {})[name] = state.position.seq
        else:
            self._plain[name] = None

    def moved(self, name: str, version: int) -> None:
        """The instance has this version now, and its value is away."""
        self.instances.setdefault(name.partition("/")[0], {})[name] = version

    def remove(self, name: str) -> None:
        """The slice or instance does not exist any more."""
        self._states.pop(name, None)
        self._used.pop(name, None)
        self._plain.pop(name, None)
        self.instances.get(name.partition("/")[0], {}).pop(name, None)

    def replace(self, versions: Mapping[str, int], states: Mapping[str, SliceState]) -> None:
        """All slices that exist, and the states of those whose values are in memory."""
        self._plain, self.instances, self._states, self._used = {}, {}, {}, {}
        for name, version in versions.items():
            if "/" in name:
                self.moved(name, version)
        for name, state in states.items():
            self.put(name, state)

    # holding

    @property
    def wanted(self) -> Selection:
        """What must be in memory, beside the plain slices."""
        return (
            EVERYTHING
            if self.whole
            else Selection(names=frozenset(self._held), families=frozenset(self._held_families))
        )

    def is_held(self, name: str) -> bool:
        return self.whole or name in self._held or name.partition("/")[0] in self._held_families

    def hold(self, names: Collection[str], families: Collection[str] = ()) -> None:
        """Keeps these in memory, from when they are fetched until as many calls of `release`."""
        self._held.update(names)
        self._held_families.update(families)

    def release(self, names: Collection[str], families: Collection[str] = ()) -> None:
        _less(self._held, names)
        _less(self._held_families, families)

    @contextlib.contextmanager
    def holding(self) -> Iterator[set[str]]:
        """A set to which names can be added that are held from then on: call `hold` for each of them."""
        names: set[str] = set()
        try:
            yield names
        finally:
            self.release(names)

    # unloading

    def begin_turn(self) -> None:
        """From now on, what is used is used in the next turn."""
        self._turn += 1

    def idle(self, turns: int) -> list[str]:
        """The instances that were not used for that many whole turns, and are not held."""
        last = self._turn - turns
        return [name for name, used in self._used.items() if used < last and "/" in name and not self.is_held(name)]

    def is_idle(self, name: str, turns: int) -> bool:
        """Whether this is one of them."""
        return self._used.get(name, self._turn) < self._turn - turns and not self.is_held(name)

    def unload(self, name: str) -> None:
        """Forgets the value of an instance."""
        self._states.pop(name, None)
        self._used.pop(name, None)

    @property
    def in_memory(self) -> int:
        """The number of instances whose values are in memory."""
        return len(self._states) - len(self._plain)


def _less(counts: Counter[str], names: Iterable[str]) -> None:
    """One less of each. What is 0 is forgotten."""
    for name in names:
        counts[name] -= 1
        if not counts[name]:
            del counts[name]
