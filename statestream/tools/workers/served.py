"""What `statestream serve` serves: a program of the user, and the settings of the command line.

Invariants: plain values, so that they can be sent to another process. The user's program is imported by `application`,
not before. An option that would have no effect is invalid usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import typer
from aiohttp import web
from msgspec import Struct

from statestream.journal import MemoryJournal
from statestream.server.app import create_app
from statestream.server.authentication import check_authenticator
from statestream.server.log_output import LogOutput
from statestream.server.request import STORE
from statestream.server.subapps import serving
from statestream.store.store import Store
from statestream.tools.console.program import ProgramObject

OPTIONS: Final = {"handoff": "--no-handoff", "origins": "--origin", "hosts": "--allowed-host"}
"""Those that have another name than the setting of `create_app`."""


class Served(Struct, frozen=True, kw_only=True):
    """`settings` are those of `create_app` that were given. `log_format` is None for Python's own log."""

    target: str
    host: str
    journal: str | None = None
    auth: str | None = None
    settings: Mapping[str, Any] = {}
    insecure: bool = False
    access_log: bool = False
    log_format: Literal["text", "json"] | None = None

    def application(self, workers: int = 1) -> web.Application:
        """Imports the program and makes its application, for one of so many processes. Raises typer.BadParameter."""
        found: Store | web.Application = ProgramObject(self.target, "TARGET").load(
            "a Store or a web.Application", _is_servable
        )
        if isinstance(found, Store):
            found = self._application_of(found)
        elif self.auth is not None:
            raise _wrong("--auth", "goes with a store; pass it to create_app for an application")
        elif self.settings:
            name = next(iter(self.settings))
            option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
            raise _wrong(option, "goes with a store; pass it to create_app for an application")
        elif self.journal is not None:
            raise _wrong("--journal", "goes with a store; an application has its own")
        if workers > 1 and any(isinstance(each[STORE].journal, MemoryJournal) for each in serving(found)):
            raise _wrong(
                "--workers",
                "with the journal memory:, each process would have a state of its own; choose a journal that processes "
                "can share, such as --journal sqlite:///board.db",
            )
        return found

    def _application_of(self, store: Store) -> web.Application:
        settings = dict(self.settings)
        if self.auth is not None:
            settings["auth"] = ProgramObject(self.auth, "--auth").load("an authenticator", _is_authenticator)
        if self.journal is not None:
            try:
                store.use_journal(self.journal)
            except ValueError as error:
                raise _wrong("--journal", str(error)) from None
        return create_app(store, **settings)

    def log(self) -> LogOutput | None:
        if not self.access_log and self.log_format is None:
            return None
        return LogOutput(self.log_format or "text", requests=self.access_log)


def _wrong(option: str, sentence: str) -> typer.BadParameter:
    return typer.BadParameter(sentence, param_hint=option)


def _is_servable(value: Any) -> bool:
    return isinstance(value, Store | web.Application)


def _is_authenticator(value: Any) -> bool:
    try:
        check_authenticator(value)
    except TypeError:
        return False
    return True
