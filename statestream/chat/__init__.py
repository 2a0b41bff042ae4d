"""The chat battery: conversations as slices, replies made by the server, protocols as views of them.

    chat = Chat(model=DemoModel())
    store = Store([board, *chat.slices])
    app = create_app(store)
    chat.add_to(app)

Invariants: nothing in the core imports this. A reply is written by `generation` only, read by anyone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeVar

from aiohttp import web

from statestream.chat.archive import archive_slice
from statestream.chat.conversation import chat_slice
from statestream.chat.conversations import Asked, Conversations, Settings
from statestream.chat.generation import Timeouts
from statestream.chat.identity import Identify, named, present
from statestream.chat.leases import nodes_slice
from statestream.chat.lists import chats_slice
from statestream.chat.models import Model, default_model
from statestream.chat.presence import presence_slice
from statestream.chat.routes import routes_of
from statestream.chat.tools import Tools
from statestream.core.principal import SERVER
from statestream.core.slices import Slice
from statestream.server.gate import STORE
from statestream.server.stream import FOLLOWERS
from statestream.store.store import Store

__all__ = ["Asked", "Chat", "Conversations", "Timeouts"]

WINDOW: Final = 20
KEEP: Final = 500
LEASE_SECONDS: Final = 10.0

F = TypeVar("F", bound=Callable[..., Any])


class Chat:
    """Conversations that many people share.

    `window`: how many of the newest messages the model is given. `keep`: how many a chat holds live. `lease`: seconds
    after which a process that has died is known to be dead, and its replies end. `titles`: whether the model is asked
    for a title after the first exchange. `who` gives the name of the person behind a request, or None.
    """

    def __init__(
        self,
        *,
        model: Model | None = None,
        timeouts: Timeouts | None = None,
        window: int = WINDOW,
        keep: int = KEEP,
        lease: float = LEASE_SECONDS,
        titles: bool = True,
        identify: Identify = named,
    ) -> None:
        self.slices: Sequence[Slice] = (chat_slice, chats_slice, archive_slice, presence_slice, nodes_slice)
        self._identify = identify
        self._tools = Tools()
        self._settings = Settings(
            model=model or default_model(),
            tools=self._tools,
            timeouts=timeouts or Timeouts(),
            window=window,
            keep=keep,
            lease=lease,
            titles=titles,
        )

    def tool(self, function: F) -> F:
        """Declares a function that the model may call: by its name, its docstring and its annotations.

        What it returns is shown and told to the model; it must be JSON. `raise Refused(code, sentence)` tells both
        that sentence instead. A plain function runs in a thread. Raises TypeError for one that cannot be described.
        """
        self._tools.add(function)
        return function

    def over(self, store: Store) -> Conversations:
        """The conversations of a store that has `slices`; for programs without a server. Use it as `async with`."""
        return Conversations(store.view(SERVER), self._settings)

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to an application of `create_app` whose store has `slices`."""
        conversations = self.over(app[STORE])
        app.add_routes(routes_of(conversations, self._identify))
        app[FOLLOWERS].append(present(conversations, self._identify))

        async def running(_: web.Application) -> AsyncIterator[None]:
            async with conversations:
                yield

        async def stopping(_: web.Application) -> None:
            await conversations.stop_all()

        app.cleanup_ctx.append(running)
        app.on_shutdown.insert(0, stopping)  # before the streams end, so that viewers see how the replies did
