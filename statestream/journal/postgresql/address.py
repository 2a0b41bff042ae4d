"""Where a PostgreSQL journal is, as its URL says: `postgresql://user@host/database?schema=board&migrate=off`.

Invariants: a pure function of the URL. The parameters `schema` and `migrate` are ours; everything else is the driver's,
and is passed on as it is. Nothing here prints a password.
"""

from __future__ import annotations

import re
from typing import Final, Self
from urllib.parse import SplitResult, unquote, urlsplit

from msgspec import Struct

SCHEMA: Final = "statestream"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}", re.ASCII)
_FORM: Final = "expected a journal URL like postgresql://user@host/database"


class Address(Struct, frozen=True, kw_only=True):
    """`dsn` is what the driver connects to. It may contain a password, so it is never printed."""

    dsn: str
    schema: str
    migrate: bool
    primary: bool
    """Whether to connect to a server that accepts writes only. The URL says otherwise with `target_session_attrs`."""

    def __repr__(self) -> str:
        return f"Address(schema={self.schema!r})"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError, whose message contains nothing of the URL that may be a secret."""
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError(f"{_FORM}, got one that cannot be parsed") from None
        if parts.scheme not in ("postgresql", "postgres") or not url.startswith(f"{parts.scheme}://"):
            raise ValueError(f"{_FORM}, got another form")
        if parts.fragment:
            raise ValueError(f"{_FORM}, got one with a #: write %23 in a password")
        ours, theirs = _parameters(parts)
        schema = ours.get("schema", SCHEMA)
        if not _NAME.fullmatch(schema) or schema.startswith("pg_"):
            raise ValueError(
                "expected a schema of at most 40 characters a-z, 0-9 and _ that does not begin with a digit or pg_,"
                f" got {schema!r}"
            )
        migrate = ours.get("migrate", "on")
        if migrate not in ("on", "off"):
            raise ValueError(f"expected migrate=on or migrate=off in the journal's URL, got {migrate!r}")
        return cls(
            dsn=parts._replace(query="&".join(theirs)).geturl(),
            schema=schema,
            migrate=migrate == "on",
            primary=not any(each.startswith("target_session_attrs=") for each in theirs),
        )


def _parameters(parts: SplitResult) -> tuple[dict[str, str], list[str]]:
    """Our parameters, and the driver's as they are written."""
    ours, theirs = {}, []
    for each in parts.query.split("&") if parts.query else ():
        name, _, value = each.partition("=")
        if name in ("schema", "migrate"):
            ours[name] = unquote(value)
        else:
            theirs.append(each)
    return ours, theirs
