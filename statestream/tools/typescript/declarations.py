"""The types of a store: `State` by names of slices, `Actions` by types of actions, and the types that these use.

Invariants: pure. It contains what some client may see: no hidden slice, and no action that only the server dispatches.
Everything has the order in which it is declared.
"""

from __future__ import annotations

from typing import Final

from statestream.core.principal import SERVER
from statestream.core.slices import Handler, Slice
from statestream.store.store import Store
from statestream.tools.typescript.identifiers import comment, literal, member
from statestream.tools.typescript.schema_types import NamedTypes, block, union

HEAD: Final = "// Written by `statestream types`. Change the slices instead of this file, and write it again.\n"


def declarations(store: Store) -> str:
    """The text of a module."""
    view, types = store.view(SERVER), NamedTypes()
    slices = [_slice(each, types) for each, _ in view.described() if not each.hidden]
    actions = [_action(each, types) for each in view.actions() if not each.slice.hidden and not each.slice.internal]
    parts = [
        HEAD,
        f"/** The values of the slices, by their names. */\nexport interface State {block(slices)}\n",
        f"/** The payloads of the actions, by their types. */\nexport interface Actions {block(actions)}\n",
        *(f"{each}\n" for each in types.declarations.values()),
    ]
    return "\n".join(parts)


def _slice(declared: Slice, types: NamedTypes) -> str:
    name = f"[key: `{declared.name}/${{string}}`]" if declared.keyed else member(declared.name)
    return f"{name}: {union(_shown(declared, types))};"


def _shown(declared: Slice, types: NamedTypes) -> list[str]:
    """The types of what clients see: what views show, and the value unless a view is for everybody."""
    seen: list[int | None] = [number for number, _ in enumerate(declared.views)]
    if all(view.roles for view in declared.views):
        seen.append(None)
    kinds = [declared.seen(number) for number in seen]
    return ["unknown" if kind is None else types.of(kind.schema(), kind.name) for kind in kinds]


def _action(handler: Handler, types: NamedTypes) -> str:
    payload = types.of(handler.signature.schema())
    return f"{comment(handler.function.__doc__)}{literal(handler.action_type)}: {payload};"
