"""The URL of a Redis journal, taken apart: where the server is, how to log in, and which keys are the journal's.

Invariants: nothing here connects. The password is in the URL and in `password`, and never in a message: `str` and
`repr` are what may be shown.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from msgspec import Struct

from statestream.journal.redis.keys import NAMESPACE

PORT: Final = 6379
_EXPECTED: Final = "expected a journal URL like redis://localhost:6379/0?namespace=board (rediss:// with TLS)"


class Address(Struct, frozen=True, kw_only=True):
    """A server, a login and a namespace."""

    host: str
    port: int
    db: int
    tls: bool
    username: str | None
    password: str | None
    namespace: str
    replicas: int
    """How many replicas must have received a batch before it counts as written."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ValueError."""
        try:
            parts = urlsplit(url)
            port = parts.port or PORT
            options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:
            raise ValueError(f"{_EXPECTED}, got one that cannot be parsed") from None
        db = parts.path.strip("/") or "0"
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.fragment or not db.isdecimal():
            raise ValueError(f"{_EXPECTED}, with a host and the number of a database")
        namespace, replicas = _options(options)
        return cls(
            host=parts.hostname,
            port=port,
            db=int(db),
            tls=parts.scheme == "rediss",
            username=None if not parts.username else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            namespace=namespace,
            replicas=replicas,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What redis-py's connections are made with."""
        return {
            "host": self.host,
            "port": self.port,
            "db": self.db,
            "username": self.username,
            "password": self.password,
        }

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.db}, namespace {self.namespace}"

    def __repr__(self) -> str:
        return f"<Address {self}>"


def _options(options: dict[str, list[str]]) -> tuple[str, int]:
    """`namespace` and `wait`. Raises ValueError."""
    unknown = sorted(set(options) - {"namespace", "wait"})
    if unknown or any(len(values) > 1 for values in options.values()):
        raise ValueError(f"{_EXPECTED}, whose parameters are namespace and wait, each of them once")
    [namespace], [replicas] = options.get("namespace", ["statestream"]), options.get("wait", ["0"])
    if NAMESPACE.fullmatch(namespace) is None:
        raise ValueError("expected `namespace` in the journal's URL to be 1-64 characters A-Za-z0-9_.:-")
    if not replicas.isdecimal() or len(replicas) > 2:
        raise ValueError("expected `wait` in the journal's URL to be a number of replicas")
    return namespace, int(replicas)
