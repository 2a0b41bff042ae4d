"""Which slices somebody follows: `slices=board,chat/42,presence/*`.

Invariants: a Selection is plain data. Two equal ones share a subscriber group, and a journal can turn one into a query.
It holds names, never state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from statestream.core.change import Change, SliceState
from statestream.core.errors import Malformed, TooLarge
from statestream.core.names import check_name, split_name
from statestream.core.slices import Slice, check_declared

MAX_NAMES: Final = 1_000
MAX_INSTANCES: Final = 1_000
MAX_SNAPSHOT: Final = 16 << 20


class Selection(Struct, frozen=True, kw_only=True):
    """Full names, families (`chat` stands for `chat/*`), and whether it is everything (`*`)."""

    names: frozenset[str]
    families: frozenset[str] = frozenset()
    everything: bool = False

    @classmethod
    def parse(cls, text: str | None, slices: Mapping[str, Slice]) -> Selection:
        """The selection that a query's `slices` asks for; None selects every plain slice.

        `slices` are those that may be named. Raises Malformed, UnknownSlice.
        """
        if text is None:
            return cls(names=frozenset(each.name for each in slices.values() if not each.keyed))
        items = text.split(",")
        if len(items) > MAX_NAMES:
            raise Malformed(f"expected at most {MAX_NAMES} names in `slices`, got {len(items)}")
        names, families, everything = set(), set(), False
        for item in items:
            name, slash, key = item.partition("/")
            if item == "*":
                everything = True
            elif slash and key == "*":
                check_declared(slices, check_name(name), key)
                families.add(name)
            else:
                check_declared(slices, *split_name(item))
                names.add(item)
        if everything:
            return EVERYTHING
        return cls(
            names=frozenset(n for n in names if n.partition("/")[0] not in families), families=frozenset(families)
        )

    @classmethod
    def all_of(cls, slices: Iterable[Slice], departed: frozenset[str] = frozenset()) -> Selection:
        """All plain slices and all instances of the keyed ones.

        `departed` are slices that are declared no more: somebody who still has them must hear that they are gone.
        """
        named = {each.name: each.keyed for each in slices}
        return cls(
            names=frozenset(name for name, keyed in named.items() if not keyed) | departed,
            families=frozenset(name for name, keyed in named.items() if keyed) | departed,
        )

    @classmethod
    def family(cls, name: str) -> Selection:
        """All instances of a keyed slice."""
        return cls(names=frozenset(), families=frozenset((name,)))

    def matches(self, name: str) -> bool:
        return self.everything or name in self.names or ("/" in name and name.partition("/")[0] in self.families)

    def among(self, changes: Iterable[Change]) -> list[Change]:
        """The changes of selected slices."""
        return [change for change in changes if self.matches(change.slice)]

    def parts(self) -> list[Selection]:
        """The names, and each of the families; everything is one part."""
        if self.everything:
            return [self]
        return [Selection(names=self.names), *map(Selection.family, sorted(self.families))]


EVERYTHING: Final = Selection(names=frozenset(), everything=True)


def bounded(found: Iterable[tuple[str, SliceState]]) -> dict[str, SliceState]:
    """The slices as a dict. Raises TooLarge if they exceed what one response may hold."""
    slices: dict[str, SliceState] = {}
    size = 0
    for name, state in found:
        slices[name] = state
        size += len(state.encoded())
        if size > MAX_SNAPSHOT:
            raise _too_large()
        check_count(len(slices))
    return slices


def check_count(count: int) -> None:
    """Raises TooLarge if these are more slices than one response may hold."""
    if count > MAX_INSTANCES:
        raise _too_large()


def _too_large() -> TooLarge:
    return TooLarge(
        f"a snapshot holds at most {MAX_INSTANCES} slices and {MAX_SNAPSHOT >> 20} MiB; select fewer slices"
    )
