"""How often a test tries what chance decides: a little in each `make test`, a lot in `make soak`, which sets TIMES."""

from __future__ import annotations

import os
from typing import Final

TIMES: Final = float(os.environ.get("TIMES", "1"))


def often(number: int) -> int:
    """The number of tries where it is `number` in `make test`."""
    return max(1, round(number * TIMES))
