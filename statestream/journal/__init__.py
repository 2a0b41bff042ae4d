"""Journals: where changes become durable. `contract` defines the guarantees, `history` has what every engine shares.

Engines are found by the scheme of their URL among the entry points of the group `statestream.journals`, so your package
can provide one:

    [project.entry-points."statestream.journals"]
    etcd = "my_package:EtcdJournal.from_url"

The entry point is a callable that takes the URL and returns a Journal, or raises ValueError if the URL is wrong.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Final
from urllib.parse import urlsplit

from statestream.journal.contract import (
    Checkpoints,
    Erasable,
    Foldable,
    Journal,
    Migratable,
    Portable,
    Retention,
    Writable,
)
from statestream.journal.memory import MemoryJournal
from statestream.journal.postgresql import PostgresqlJournal
from statestream.journal.sqlite import SqliteJournal

__all__ = [
    "Checkpoints",
    "Erasable",
    "Foldable",
    "Journal",
    "MemoryJournal",
    "Migratable",
    "Portable",
    "PostgresqlJournal",
    "Retention",
    "SqliteJournal",
    "Writable",
    "from_url",
]

GROUP: Final = "statestream.journals"


def from_url(url: str) -> Journal:
    """The journal of `memory:`, `sqlite:///relative.db`, `postgresql://host/database`, or of another engine's URL.

    Raises ValueError for a URL that no installed engine understands.
    """
    scheme, colon, _ = url.partition(":")
    engines = {engine.name: engine for engine in entry_points(group=GROUP)}
    if not colon or scheme not in engines:
        known = ", ".join(f"{name}:" for name in sorted(engines)) or "none: reinstall statestream"
        file = "" if colon or not url else f"; a file is written sqlite:///{url}"
        raise ValueError(
            f"expected a journal URL of an installed engine ({known}), got {_without_password(url)!r}{file}"
        )
    try:
        engine = engines[scheme].load()
    except ImportError as error:  # of what an extra installs
        raise ValueError(str(error)) from error
    journal: Journal = engine(url)
    return journal


def _without_password(url: str) -> str:
    try:
        password = urlsplit(url).password
    except ValueError:
        return "a URL that cannot be parsed"
    return url if password is None else url.replace(password, "…")
