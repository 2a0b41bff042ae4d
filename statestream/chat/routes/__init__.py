"""The chat's routes, a file for each protocol.

Invariants: a route reads its request, calls the conversations, and shows what comes of it through a projection. A
response is one viewer: that it ends early ends nothing else.
"""

from __future__ import annotations

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import Identify
from statestream.chat.routes import ag_ui, chats, phases, text, ui_messages, ui_socket


def routes_of(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    return [
        *chats.routes_of(conversations, identify),
        *text.routes_of(conversations, identify),
        *ui_messages.routes_of(conversations, identify),
        *ui_socket.routes_of(conversations, identify),
        *ag_ui.routes_of(conversations, identify),
        *phases.routes_of(conversations, identify),
    ]
