"""Who acts: the one on whose behalf a request reads or dispatches.

Invariants: plain data. A principal says who somebody is; what they may do is decided in `store.view`.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Principal(Struct, frozen=True, kw_only=True, gc=False):
    """A person, a program, or the server's own code.

    `subject` is the actor of what they dispatch: handlers and causes show it, and their ids are idempotent among
    themselves. `internal` marks the server's own code, which may dispatch internal actions.
    """

    subject: str | None = None
    internal: bool = False


ANYBODY: Final = Principal()
SERVER: Final = Principal(internal=True)


class Scope(Struct, frozen=True, kw_only=True, gc=False):
    """What a principal may read. Principals of equal scopes share bytes. `hidden` says whether hidden slices count."""

    hidden: bool = False
