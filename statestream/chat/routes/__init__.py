"""The chat's routes, a file for each protocol.

Law: a route reads its request, calls the conversations, and shows what comes of it through a projection. A response
is one viewer: that it ends early ends nothing else.
"""

from __future__ import annotations

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.people import Who
from statestream.chat.routes import ag_ui, chats, phases, text, ui_messages, ui_socket


def routes_of(conversations: Conversations, who: Who) -> list[web.RouteDef]:
    return [
        *chats.routes_of(conversations, who),
        *text.routes_of(conversations, who),
        *ui_messages.routes_of(conversations, who),
        *ui_socket.routes_of(conversations, who),
        *ag_ui.routes_of(conversations, who),
        *phases.routes_of(conversations, who),
    ]
