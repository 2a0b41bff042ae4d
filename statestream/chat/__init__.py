"""The chat battery: conversations as slices, replies made by the server, protocols as views of them.

    chat = Chat(model=DemoModel())
    store = Store([board, *chat.slices])
    app = create_app(store)
    chat.add_to(app)

Law: nothing in the core imports this. A reply is written by `generation` only, read by anyone.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from aiohttp import web

from statestream.chat import slice as chat
from statestream.chat.generation import INTERRUPTED, Generation, Generations, Timeouts
from statestream.chat.models import Model, Turn, default_model
from statestream.chat.routes import routes_of
from statestream.errors import NotFound, Refused, Unavailable
from statestream.server.routes import STORE
from statestream.slices import Slice
from statestream.store import Store

__all__ = ["Chat", "Timeouts"]

WINDOW: Final = 20


class Chat:
    """Conversations that many people share. `window`: how many of the newest messages the model is given."""

    def __init__(self, *, model: Model | None = None, timeouts: Timeouts | None = None, window: int = WINDOW) -> None:
        self.slices: Sequence[Slice] = (chat.chat_slice,)
        self._model = model or default_model()
        self._timeouts = timeouts or Timeouts()
        self._window = window
        self._generations = Generations()

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to an application of `create_app` whose store has `slices`."""
        app.add_routes(routes_of(self))
        app.on_shutdown.insert(0, self._stop)  # before the streams end, so that viewers see how the replies did
        app.cleanup_ctx.append(self._running)

    async def _running(self, app: web.Application) -> AsyncIterator[None]:
        await self._end_orphans(app[STORE])
        yield
        await self._generations.close()
        await self._model.close()

    async def _stop(self, _: web.Application) -> None:
        await self._generations.close()

    async def _end_orphans(self, store: Store) -> None:
        """No message stays `streaming` whose maker was killed: its text is kept, and the reply ends as an error."""
        for name, state in tuple(store.slices.items()):
            family, _, key = name.partition("/")
            for message in state.value["messages"] if family == chat.NAME else ():
                if message["status"] == "streaming":
                    with contextlib.suppress(Refused):  # another process was first
                        await store.dispatch(chat.ended(key, reply=message["id"], **INTERRUPTED))

    async def create(self, store: Store) -> str:
        """Makes an empty chat and gives its id."""
        key = secrets.token_hex(6)
        await store.dispatch(chat.created(key))
        return key

    async def ask(self, store: Store, key: str, text: str) -> str:
        """Saves the question and the reply's placeholder, then lets the model answer; gives the reply's id.

        Raises NotFound, and Refused (`busy`) while a reply is being made.
        """
        turns = self._turns(self.state(store, key), text)
        return await self._generations.owned(self._ask(store, key, text, turns))

    async def _ask(self, store: Store, key: str, text: str, turns: Sequence[Turn]) -> str:
        """Not the request's own: one that leaves in the middle must not leave a placeholder that nobody fills."""
        reply = secrets.token_hex(6)
        asked = chat.asked(
            key, question=secrets.token_hex(6), text=text, reply=reply, run=secrets.token_hex(6), model=self._model.name
        )
        generation = Generation(store, key, reply, self._model, self._timeouts)
        try:
            await store.dispatch(asked)
        except Unavailable:
            generation.stop()  # the placeholder may be there all the same: then it ends when the journal is back
            self._generations.start(generation, turns)
            raise
        self._generations.start(generation, turns)
        return reply

    def state(self, store: Store, key: str) -> Any:
        """The chat's committed state. Raises NotFound."""
        state = store.get(f"{chat.NAME}/{key}")
        if state is None:
            raise NotFound("expected the id of a chat that exists; make one with POST /api/chats")
        return state

    def _turns(self, state: Any, text: str) -> list[Turn]:
        """What the model is given: the newest messages that say something, the question last."""
        turns = [Turn(role="user", text=text)]
        for message in reversed(state["messages"]):
            if len(turns) == self._window:
                break
            if said := chat.text_of(message):
                turns.append(Turn(role=message["role"], text=said))
        return turns[::-1]
