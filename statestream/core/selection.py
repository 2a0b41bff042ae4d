"""Which slices a reader follows: `slices=board,chat/42,presence/*`.

Invariants: a Selection is a value: two readers with equal ones share an audience. It knows names, not state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from msgspec import Struct

from statestream.core.change import Change, SliceState
from statestream.core.errors import Malformed, TooLarge
from statestream.core.names import check_name, split_name
from statestream.store.transaction import HandlerRegistry

MAX_NAMES: Final = 1_000
MAX_INSTANCES: Final = 1_000
MAX_SNAPSHOT: Final = 16 << 20


class Selection(Struct, frozen=True, kw_only=True):
    """Full names, families (`chat` stands for `chat/*`), and whether it is everything (`*`)."""

    names: frozenset[str]
    families: frozenset[str] = frozenset()
    everything: bool = False

    @classmethod
    def parse(cls, text: str | None, rules: HandlerRegistry) -> Selection:
        """From the query's `slices`; None is every plain slice. Raises Malformed, UnknownSlice."""
        if text is None:
            return cls(names=frozenset(part.name for part in rules.slices.values() if not part.keyed))
        items = text.split(",")
        if len(items) > MAX_NAMES:
            raise Malformed(f"expected at most {MAX_NAMES} names in `slices`, got {len(items)}")
        names, families, everything = set(), set(), False
        for item in items:
            name, slash, key = item.partition("/")
            if item == "*":
                everything = True
            elif slash and key == "*":
                rules.check_slice(check_name(name), key)
                families.add(name)
            else:
                rules.check_slice(*split_name(item))
                names.add(item)
        if everything:
            return cls(names=frozenset(), everything=True)
        return cls(
            names=frozenset(n for n in names if n.partition("/")[0] not in families), families=frozenset(families)
        )

    def matches(self, name: str) -> bool:
        return self.everything or name in self.names or ("/" in name and name.partition("/")[0] in self.families)

    def among(self, changes: Iterable[Change]) -> list[Change]:
        """The changes of selected slices."""
        return [change for change in changes if self.matches(change.slice)]

    def of(self, slices: Mapping[str, SliceState]) -> Iterator[tuple[str, SliceState]]:
        """The selected slices that exist."""
        if self.everything or self.families:
            yield from ((name, state) for name, state in slices.items() if self.matches(name))
        else:
            yield from ((name, slices[name]) for name in sorted(self.names) if name in slices)

    def snapshot(self, slices: Mapping[str, SliceState]) -> dict[str, SliceState]:
        """The selected slices that exist. Raises TooLarge where that is more than one answer may hold."""
        found: dict[str, SliceState] = {}
        size = 0
        for name, state in self.of(slices):
            found[name] = state
            size += len(state.encoded())
            if len(found) > MAX_INSTANCES or size > MAX_SNAPSHOT:
                raise TooLarge(
                    f"expected a snapshot of at most {MAX_INSTANCES} slices and {MAX_SNAPSHOT >> 20} MiB, "
                    "got a larger one; ask for fewer slices"
                )
        return found
