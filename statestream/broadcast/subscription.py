"""What a subscriber asks for, and what makes several of them receive the same bytes.

Invariants: frozen. Subscriptions that are equal share one group, so a subscription has nothing that tells one
subscriber from another.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from statestream.broadcast.encoding import Encoding
from statestream.core.change import Position
from statestream.core.principal import Scope
from statestream.core.selection import Selection
from statestream.protocol.frame_types import Reason
from statestream.store.grant import Grant

EARLIEST: Final = "earliest"
"""The cursor of a subscriber that wants the history from its earliest position."""

Cursor = Position | Reason | Literal["earliest"]
"""Where a subscriber continues: after a position, or with the whole state for a reason, or at the very beginning."""


class Detail(Struct, frozen=True, kw_only=True, gc=False):
    """What an update contains. `payloads`: causes have their payload. `every_change`: changes are never coalesced."""

    payloads: bool = False
    every_change: bool = False


class Wanted(Struct, frozen=True, kw_only=True, gc=False):
    """What a subscriber asks for. `lasting` is what it was granted, if no change of the state can change that."""

    selection: Selection
    lasting: Grant | None
    detail: Detail
    encoding: Encoding


class Subscription(Struct, frozen=True, kw_only=True, gc=False):
    """What makes subscribers receive the same bytes. `selection` is what they may read of what they asked for."""

    scope: Scope
    selection: Selection
    detail: Detail
    encoding: Encoding

    @property
    def viewed(self) -> Selection | None:
        """What is seen through views, and so must be in memory; None if nothing is."""
        families = {family for family, _ in self.scope.views}
        if not families:
            return None
        return Selection(
            names=frozenset(name for name in self.selection.names if name.partition("/")[0] in families),
            families=self.selection.families & families,
        )
