"""What a client asks for: a selection by names, `name/*` for a family and `*` for everything, or one value.

Invariants: a client does not know which slices a server declares, so the names are not verified here. The server
refuses the ones that it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from statestream.core.selection import EVERYTHING, Selection
from statestream.core.slices import Slice, full_name_of


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


def value_of(state: Mapping[str, Any], name: str | Slice[Any], key: str | None) -> Any:
    """The value of a slice or instance in a client's state; None if it is not there. Raises TypeError, InvalidValue."""
    full_name = full_name_of(name, key)
    if full_name not in state:
        return None
    return state[full_name] if isinstance(name, str) else name.of(state[full_name])
