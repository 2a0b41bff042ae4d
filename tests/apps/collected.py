"""The chat under test, which also tells which objects it has in memory."""

from __future__ import annotations

from tests.apps.chatty import app
from tests.support.objects import tell_objects

__all__ = ["app"]

tell_objects(app)
