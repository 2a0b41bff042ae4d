"""What every journal must pass: the guarantees of `statestream.journal.contract`, each in a test.

The tests need pytest with an asyncio plugin in auto mode, and nothing else.

Invariants: only promises of the contract are tested, through its own methods and the History that is the same for every
engine; nothing here knows an engine.
"""

from __future__ import annotations

from statestream.testing.contract.appends import AppendTests
from statestream.testing.contract.checkpoints import CheckpointTests
from statestream.testing.contract.erasures import ErasureTests
from statestream.testing.contract.folds import FoldTests
from statestream.testing.contract.requests import RequestTests


class JournalContract(AppendTests, RequestTests, CheckpointTests, ErasureTests, FoldTests):
    """Inherit from it, and implement `make` and `reopen`.

    An engine without Checkpoints passes as well: it keeps all of its history.
    """
