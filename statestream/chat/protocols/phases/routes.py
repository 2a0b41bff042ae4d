"""`GET /ws`.

Invariants: it opens the WebSocket and follows the chats of the query; everything else is in `followed_chats`.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import Identify, person
from statestream.chat.protocols.phases.followed_chats import FollowedChats, sessions_of
from statestream.chat.viewing.socket_outlet import SocketOutlet

MAX_MESSAGE: Final = 256 << 10


def routes(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        user, sessions = person(request, identify), sessions_of(request)
        async with SocketOutlet(request, conversations.notifier, max_message=MAX_MESSAGE) as outlet:
            if any(sessions.values()):  # another node may have given the positions a moment ago
                await conversations.caught_up()
            with FollowedChats(conversations, outlet, user) as chats:
                for session_id, position in sessions.items():
                    chats.follow(session_id, position)
                await outlet.serve(chats.take, chats.show())
        return outlet.response

    return [web.get("/ws", connect, allow_head=False)]
