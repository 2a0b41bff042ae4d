"""The SQL of a PostgreSQL journal: one statement per file in `sql`, and the migrations in `sql/migrations`.

Invariants: values are always bound. What is put into the text is the name of the schema, which `address.py` has
checked, and what follows from it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Final

RECORD_BYTES: Final = 240
_SIZE: Final = f"(2 * (length(r.actor) + length(r.id)) + length(r.digest) + length(r.slices) + {RECORD_BYTES})"
"""What an idempotency record takes. It is found by its key and by its age, so its key counts twice. A vacuum
leaves space unused as well."""
_FOLDER: Final = resources.files("statestream.journal.postgresql").joinpath("sql")


class Statements:
    """The statements for the tables of one schema, by the names of their files."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self.channel = f"statestream_{schema}"
        """What nodes listen on. A database has one set of channels for all its schemas."""
        self._texts: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        text = self._texts.get(name)
        if text is None:
            text = self._texts[name] = self._filled(f"{name}.sql")
        return text

    def migration(self, version: int) -> str:
        """The script that leads to a version of the tables from the one before."""
        return self._filled(f"migrations/{version}.sql")

    def _filled(self, file: str) -> str:
        text = _read(file).replace("{schema}", f'"{self.schema}"').replace("{channel}", self.channel)
        return text.replace("{record_size}", _SIZE)


@cache
def _read(file: str) -> str:
    return _FOLDER.joinpath(*file.split("/")).read_text(encoding="utf-8")
