"""What a projection is: a conversation in the form of one protocol, for one viewer.

Invariants: a projection is pure. It holds its viewer's place and nothing that the state does not have, so that the
stream of a late viewer is made from the state like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from statestream.chat.messages import State
from statestream.core.change import SliceState

Item = dict[str, Any] | str
"""One unit of a protocol: a chunk or an event, which travels as JSON, or text, which travels as it is."""


class Beside(Struct, frozen=True, kw_only=True):
    """Slices that are shown beside a conversation.

    If `whole`, these are all of them. Otherwise they are those that have changed since the last look; None: removed.
    """

    slices: Mapping[str, SliceState | None]
    whole: bool


class Look(Struct, frozen=True, kw_only=True):
    """What one look at a conversation sees.

    `state` is the chat's committed state. `beside` are the slices beside it, if the viewer follows any. `last`: the
    server stops, so that there is no further look.
    """

    state: State
    beside: Beside | None = None
    last: bool = False


class Projection(Protocol):
    """One viewer's projection of a conversation."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""

    @property
    def truncated(self) -> bool:
        """Whether something is missing that will not come: the response must not look like a complete one."""

    def new(self, look: Look) -> list[Item]:
        """The items that follow those of the last look. The first look may be at any time, even in mid-reply."""
