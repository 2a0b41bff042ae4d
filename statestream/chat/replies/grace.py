"""What was cancelled may clean up, but not for ever: it may swallow the cancellation.

Invariants: whoever waits for such a task waits for GRACE_SECONDS at most, and then leaves it to itself.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

GRACE_SECONDS: Final = 1.0


def mark_as_retrieved(task: asyncio.Task[Any]) -> None:
    """For `add_done_callback` of a task for which nobody waits any more: its exception is nobody's."""
    if not task.cancelled():
        task.exception()
