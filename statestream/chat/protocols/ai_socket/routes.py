"""`GET /api/chat`, opened as a WebSocket.

Invariants: it opens the WebSocket; everything else is in `requests`.
"""

from __future__ import annotations

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import Identify, person
from statestream.chat.protocols.ai_socket.requests import Requests
from statestream.chat.viewing.socket_outlet import SocketOutlet
from statestream.server.bodies import MAX_BODY


def routes(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        user = person(request, identify)
        limit = request.config_dict[MAX_BODY]
        async with SocketOutlet(request, conversations.notifier, max_message=limit) as outlet:
            await outlet.serve(Requests(conversations, outlet, user).take)
        return outlet.response

    return [web.get("/api/chat", connect, allow_head=False)]
