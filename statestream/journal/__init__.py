"""Journals: where changes become durable. `contract` says what each promises; `of` picks one by its URL."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from statestream.journal.contract import Journal, Retention
from statestream.journal.memory import MemoryJournal
from statestream.journal.sqlite import SqliteJournal

__all__ = ["Journal", "MemoryJournal", "Retention", "SqliteJournal", "of"]


def of(url: str) -> Journal:
    """The journal of `memory:` or `sqlite:///relative.db` (`sqlite:////absolute.db`). Raises ValueError for others."""
    parts = urlsplit(url)
    if url in ("memory:", "memory://"):
        return MemoryJournal()
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1 and not parts.query:
        return SqliteJournal(unquote(parts.path[1:]))
    shown = url if parts.password is None else url.replace(parts.password, "…")
    raise ValueError(f"expected a journal URL like memory: or sqlite:///path.db, got {shown!r}")
