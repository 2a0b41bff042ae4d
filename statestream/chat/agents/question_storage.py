"""What an agent stores for one question, so that it survives a crash and a wait.

Invariants: a value is durable when `store` returns, and belongs to a reply that has not ended. Tools that run
concurrently do not overwrite each other's values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from statestream.chat.chats import state_of
from statestream.chat.messages import find
from statestream.chat.slices import conversation, storage
from statestream.core.errors import Refused
from statestream.core.values import plain
from statestream.store.view import StoreView

MAX_STORED: Final = 1_000_000
"""The bytes of JSON that an agent can store for one question."""


class QuestionStorage:
    """The values of the question that `reply` answers. Call `open` first."""

    def __init__(self, view: StoreView, key: str, reply: str) -> None:
        self._view, self._key, self._reply = view, key, reply
        self._question = ""
        self._values: dict[str, Any] = {}
        self._storing = asyncio.Lock()

    async def open(self) -> None:
        """Reads what is stored. Raises Unavailable."""
        self._question, found = await self._view.complete(self._find)
        self._values = dict(found)

    def _find(self) -> tuple[str, Mapping[str, Any]]:
        reply = find(state_of(self._view, self._key), self._reply)
        question = "" if reply is None else str(reply["parent"])
        return question, storage.stored_for(self._view, self._key, question)

    @property
    def values(self) -> Mapping[str, Any]:
        return MappingProxyType(self._values)

    async def store(self, name: str, value: Any) -> None:
        """Raises NotJSON, Refused if there is too much or the reply has ended, Unavailable."""
        async with self._storing:
            after = {**self._values, name: plain(value)}
            if len(orjson.dumps(after)) > MAX_STORED:
                raise Refused("storage_full", f"An agent can store at most {MAX_STORED:,} bytes for one question.")
            going_on = conversation.went_on(self._key, reply=self._reply)
            stored = storage.stored(self._key, question=self._question, name=name, value=after[name])
            await self._view.dispatch([going_on, stored])
            self._values = after
