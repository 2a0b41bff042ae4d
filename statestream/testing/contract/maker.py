"""How the tests of the contract get journals.

Invariants: only the methods that an engine's own tests implement; `JournalContract` has the tests.
"""

from __future__ import annotations

from statestream.journal.contract import Journal, Retention


class JournalMaker:
    """The two methods that whoever tests an engine implements."""

    async def make(self, retention: Retention) -> Journal:
        """Returns a new, empty journal, opened."""
        raise NotImplementedError

    async def reopen(self, journal: Journal) -> Journal:
        """Returns the same data after a restart; the same object, if the engine keeps nothing across restarts."""
        raise NotImplementedError
