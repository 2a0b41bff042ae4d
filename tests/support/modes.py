"""Tests whose subject hardly depends on how a server owns its sockets.

Invariants: with `each_mode`, a test of streams runs in each of MODES. One marked `in_one_mode` runs in the first
of them, and in the others by `make soak`. What writes to the sockets of readers is tested in all of them.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.server import FRONT, MODES

TRIED: Final = MODES if FRONT == "statestream" else MODES[1:2]
"""An ASGI server has the sockets itself."""
in_one_mode: Final = pytest.mark.parametrize(
    "each_mode", [TRIED[0], *(pytest.param(mode, marks=pytest.mark.soak) for mode in TRIED[1:])], indirect=True
)
