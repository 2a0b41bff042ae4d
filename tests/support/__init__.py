"""The code that tests share. This module exports what most of them need; import the rest from the modules beside it.

Invariants: no file in tests imports a test module. Code that two test modules share belongs here, and a fixture that
they share belongs in the conftest.py of their folder, or in tests/conftest.py if they are in different folders. Some
modules here are also run as scripts, so none may have the name of a module of the standard library.
"""

from __future__ import annotations

from tests.support.api import dispatch, get_state
from tests.support.paths import ROOT
from tests.support.plain_client import Frame, PlainClient
from tests.support.polling import eventually
from tests.support.server import BOARD, FRONT, MODES, START_SECONDS, Server
from tests.support.stand_in import serving

__all__ = [
    "BOARD",
    "FRONT",
    "MODES",
    "ROOT",
    "START_SECONDS",
    "Frame",
    "PlainClient",
    "Server",
    "dispatch",
    "eventually",
    "get_state",
    "serving",
]
