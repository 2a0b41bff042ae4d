"""`GET /ws`.

Invariants: see the package.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import Identify, person
from statestream.chat.protocols.phases.client import Client
from statestream.chat.protocols.phases.request import sessions_of
from statestream.chat.viewing.connection import Connection

MAX_MESSAGE: Final = 256 << 10


def routes(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        user, sessions = person(request, identify), sessions_of(request)
        async with Connection(request, conversations.notifier, max_message=MAX_MESSAGE) as connection:
            if any(sessions.values()):  # another node may have given the positions a moment ago
                await conversations.caught_up()
            with Client(conversations, connection, user) as client:
                for session_id, position in sessions.items():
                    client.follow(session_id, position)
                await connection.serve(client.take, client.show())
        return connection.response

    return [web.get("/ws", connect, allow_head=False)]
