"""The credentials that an application takes, as the security schemes of a document.

Invariants: the schemes are those of the application's authenticator, and of the cookie of a ticket. Without an
authenticator there are none, and no route says anything about credentials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from statestream.server.authentication import AUTH, credential_headers
from statestream.server.contract import Contract, Schema
from statestream.server.tickets import COOKIE

AUTHORIZATION: Final = "Authorization"
TICKET: Final = "ticket"
TICKETS_SAY: Final = "Of `POST /tickets`, for an `EventSource` or a `WebSocket`."


class Security(Struct, frozen=True, kw_only=True):
    """The names of the headers with credentials; None for an application without an authenticator."""

    headers: Sequence[str] | None

    @classmethod
    def of(cls, app: Any) -> Security:
        """That of an application or of its `config_dict`."""
        if AUTH not in app:
            return cls(headers=None)
        return cls(headers=tuple(credential_headers(app[AUTH])))

    @property
    def authenticates(self) -> bool:
        return self.headers is not None

    def schemes(self, api_key: str) -> Schema:
        """The schemes by their names. `api_key` is what the document calls the type of a header."""
        if self.headers is None:
            return {}
        found: Schema = {_name(header): _scheme(header, api_key) for header in self.headers}
        return {**found, TICKET: {"type": api_key, "in": "cookie", "name": COOKIE, "description": TICKETS_SAY}}

    def of_route(self, contract: Contract) -> list[str]:
        """The names of the schemes of which a route takes any one."""
        if self.headers is None or contract.access == "open":
            return []
        return [*map(_name, self.headers), *([TICKET] if contract.cookie else [])]


def _name(header: str) -> str:
    return "bearer" if header == AUTHORIZATION else header


def _scheme(header: str, api_key: str) -> Schema:
    if header == AUTHORIZATION:
        return {"type": "http", "scheme": "bearer"}
    return {"type": api_key, "in": "header", "name": header}
