"""The selection that a client asks for: names, `name/*` for a family, `*` for everything.

Invariants: a client does not know which slices a server declares, so the names are not verified here. The server
refuses the ones that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable

from statestream.core.selection import EVERYTHING, Selection


def selection_of(items: Iterable[str]) -> Selection:
    """The selection of these items, each of them a name, `name/*` or `*`."""
    names, families = set(), set()
    for item in items:
        if item == "*":
            return EVERYTHING
        if item.endswith("/*"):
            families.add(item.removesuffix("/*"))
        else:
            names.add(item)
    return Selection(names=frozenset(names), families=frozenset(families))
