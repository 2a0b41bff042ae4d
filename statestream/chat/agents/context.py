"""What an agent can do besides answering: read the state and dispatch actions, as the person who asks.

Invariants: an agent has the rights of the person on whose behalf it works, and no others. What it reads must not be
changed.
"""

from __future__ import annotations

from typing import Any

from statestream.core.change import Action, Result, Snapshot
from statestream.core.principal import Identity
from statestream.store.view import StoreView


class Context:
    """The state as the person who asks may see it. `identity` is theirs; None if the server does not authenticate."""

    def __init__(self, view: StoreView) -> None:
        self._view = view

    @property
    def identity(self) -> Identity | None:
        return self._view.principal.identity

    async def get(self, name: str) -> Any:
        """The committed value of a slice (`board`) or an instance (`room/42`); None if the instance does not exist.

        Raises UnknownSlice also for what this person may not read, Malformed, Unavailable.
        """
        snapshot = await self._view.complete(lambda: self._snapshot(name))
        state = snapshot.slices.get(name)
        return None if state is None else state.value

    def _snapshot(self, name: str) -> Snapshot:
        return self._view.snapshot(self._view.grant(self._view.asked(name)).selection)

    async def dispatch(self, *actions: Action) -> Result:
        """Applies actions, all or none, as this person; see `Store.dispatch`.

        Raises Forbidden, Refused, InvalidPayload, UnknownAction, Unavailable.
        """
        return await self._view.dispatch(actions)
