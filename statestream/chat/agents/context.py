"""What an agent can do besides answering: read the state, dispatch actions as the person who asks, and store values.

Invariants: an agent has the rights of the person on whose behalf it works, and no others. What it reads must not be
changed. What it has stored is durable when `store` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from statestream.chat.slices import storage
from statestream.core.change import Action, Result, Snapshot
from statestream.core.errors import Refused
from statestream.core.principal import Identity
from statestream.core.values import plain
from statestream.store.view import StoreView

MAX_STORED: Final = 1_000_000
"""The bytes of JSON that an agent can store for one question."""


class Context:
    """The state as the person who asks may see it. `view` is theirs; `server` is the server's own, for the storage of
    the question with that id in the chat `key`.
    """

    def __init__(self, view: StoreView, server: StoreView, key: str) -> None:
        self._view, self._server, self._key = view, server, key
        self._question = ""
        self._stored: dict[str, Any] = {}

    @property
    def identity(self) -> Identity | None:
        """Who asks; None if the server does not authenticate."""
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

    @property
    def stored(self) -> Mapping[str, Any]:
        """What was stored for this question: by this run, and before it by runs that were interrupted."""
        return MappingProxyType(self._stored)

    async def store(self, name: str, value: Any) -> None:
        """Stores a JSON value under a name. Nobody else can read it.

        Raises NotJSON, Refused if there is too much, Unavailable.
        """
        after = {**self._stored, name: plain(value)}
        if len(orjson.dumps(after)) > MAX_STORED:
            raise Refused("storage_full", f"An agent can store at most {MAX_STORED:,} bytes for one question.")
        await self._server.dispatch(storage.stored(self._key, question=self._question, name=name, value=after[name]))
        self._stored = after

    async def open(self, question: str) -> None:
        """Reads what is stored for a question, which this context is for from now on. Raises Unavailable."""
        found = await self._server.complete(lambda: storage.stored_for(self._server, self._key, question))
        self._question, self._stored = question, dict(found)
