"""The slice `chat_nodes`: the leases of the nodes that make replies or hold the streams of people who are present.

    chat_nodes/<node>  {"renewed_at"}

Invariants: a node writes the lease of its own, and removes one of another node only when that has expired.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.core.change import REMOVED, Action
from statestream.core.slices import Slice

NAME: Final = "chat_nodes"

nodes_slice = Slice(NAME, initial={"renewed_at": 0}, keyed=True, internal=True)


@nodes_slice.action
def renewed(state: Any, action: Action) -> None:
    """The node is alive and needs its lease."""
    state["renewed_at"] = action.at


@nodes_slice.action
def left(state: Any) -> Any:
    """The node no longer needs a lease, or it is lost."""
    return REMOVED
