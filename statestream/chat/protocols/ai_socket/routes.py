"""`GET /api/chat`, opened as a WebSocket.

Invariants: see the package.
"""

from __future__ import annotations

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import Identify, person
from statestream.chat.protocols.ai_socket.client import Client
from statestream.chat.viewing.connection import Connection
from statestream.server.bodies import MAX_BODY


def routes(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        user = person(request, identify)
        limit = request.config_dict[MAX_BODY]
        async with Connection(request, conversations.notifier, max_message=limit) as connection:
            await connection.serve(Client(conversations, connection, user).take)
        return connection.response

    return [web.get("/api/chat", connect, allow_head=False)]
