"""Approvals: what a tool call needs from a person before it runs, and what somebody has decided.

A waiting tool call has an approval in its part, with its own id. As long as the reply waits, anybody in the chat can
decide, from any window and over any protocol. The last decision lets the reply continue.

Invariants: plain data, and pure functions of that data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from statestream.core.errors import NotFound

DENIED: Final = "A person has denied this call."
"""What a model is told about a denied call."""
MAX_SECONDS: Final = 10 * 365 * 86_400
MAX_REASON: Final = 2_000
MAX_ARGUMENTS: Final = 100_000
"""The maximum size of edited arguments, in bytes."""
UNKNOWN: Final = "no tool call of this chat waits under this id"
_MAX_DIGITS: Final = 6


class Approval(Struct, frozen=True, kw_only=True):
    """What a tool call needs before it runs.

    `role`: on a server that authenticates, the role that a person needs to decide; None: everybody in the chat may.
    `seconds`: how long the reply waits before it ends without the call; None: indefinitely. Raises TypeError and
    ValueError for anything else.
    """

    role: str | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.role is not None and not isinstance(self.role, str):
            raise TypeError(f"expected the role of an approval to be a name, got {self.role!r}")
        if self.seconds is not None and not 0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"expected the seconds of an approval to be at most ten years, got {self.seconds!r}")


ANYBODYS: Final = Approval()


def approval_of(needed: Any) -> Approval | None:
    """The approval for what was declared: True, False, None or an Approval. Raises TypeError."""
    if isinstance(needed, Approval):
        return needed
    if needed is None or isinstance(needed, bool):
        return ANYBODYS if needed else None
    raise TypeError(f"expected True, False or an Approval, got {needed!r}")


class Decision(Struct, frozen=True, kw_only=True):
    """What somebody decides about a tool call.

    `id` is that of the approval. `arguments`, if given, replace all arguments of the call. `reason` is for the model
    and for people.
    """

    id: str
    approved: bool
    arguments: Mapping[str, Any] | None = None
    reason: str | None = None


class ToolAnswer(Struct, frozen=True, kw_only=True):
    """The outcome of a front-end tool call from a window: `result`, which is JSON, or `error`, a sentence.

    `id` is that of the offer.
    """

    id: str
    result: Any = None
    error: str | None = None


class Decided(Struct, frozen=True, kw_only=True):
    """The decision about a tool call, with the arguments to use, and the name of the person who decided, if known."""

    approved: bool
    arguments: Mapping[str, Any]
    reason: str | None = None
    by: str | None = None


def deadline(message: Mapping[str, Any], parts: Iterable[int]) -> int | None:
    """When a reply that waits for decisions about these parts ends: Unix time in ms; None if it waits indefinitely."""
    times = [message["parts"][part].get("approval", {}).get("expires_at") for part in parts]
    return min((time for time in times if time is not None), default=None)


def approval_id(reply: str, part: int) -> str:
    return f"{reply}:{part}"


def parsed_id(id: str) -> tuple[str, int]:
    """The reply and the part of an approval. Raises NotFound if the id cannot be that of an approval."""
    reply, _, part = id.rpartition(":")
    if not reply or not part.isascii() or not part.isdigit() or len(part) > _MAX_DIGITS:
        raise NotFound(UNKNOWN)
    return reply, int(part)
