"""The protocols of a chat: what each promises, whether a server offers it, and its clients.

Invariants: the order is that in which they are tried for asking the question.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from statestream.tools.conformance.chats.ag_ui_client import AGUIClient
from statestream.tools.conformance.chats.chat_server import ChatServer, in_path
from statestream.tools.conformance.chats.client import Client
from statestream.tools.conformance.chats.phases_client import PhasesClient
from statestream.tools.conformance.chats.reply_under_test import ReplyUnderTest
from statestream.tools.conformance.chats.state_client import StateClient
from statestream.tools.conformance.chats.text_client import TextClient
from statestream.tools.conformance.chats.ui_client import UIClient
from statestream.tools.conformance.chats.ui_socket_client import UISocketClient
from statestream.tools.conformance.checks import Check

MakeClient = Callable[[ReplyUnderTest, random.Random, bool], Client]
"""Makes a client; the last argument says whether it asks the question."""


class ChatProtocol(Check, frozen=True, kw_only=True):
    """A protocol. `offered`: whether a server offers it for that chat. `asks`: whether its clients can ask."""

    offered: Callable[[ChatServer, str], Awaitable[bool]]
    client: MakeClient
    asks: bool = True
    remark: str = ""


def _sometimes(chance: random.Random) -> bool:
    return chance.random() < 0.5


def _page(reply: ReplyUnderTest, chance: random.Random, asks: bool) -> Client:
    return UIClient(reply, asks=asks or _sometimes(chance), decides=_sometimes(chance))


def _socket_page(reply: ReplyUnderTest, chance: random.Random, asks: bool) -> Client:
    return UISocketClient(reply, asks=asks or _sometimes(chance), decides=_sometimes(chance))


def _agent(reply: ReplyUnderTest, chance: random.Random, asks: bool) -> Client:
    return AGUIClient(reply, follows=not asks and _sometimes(chance), decides=_sometimes(chance))


def _phases(reply: ReplyUnderTest, chance: random.Random, asks: bool) -> Client:
    return PhasesClient(reply, asks=asks)


def _subscriber(reply: ReplyUnderTest, chance: random.Random, asks: bool) -> Client:
    return StateClient(reply)


def _reader(reply: ReplyUnderTest, chance: random.Random, asks: bool) -> Client:
    return TextClient(reply)


PROTOCOLS: Final[Sequence[ChatProtocol]] = (
    ChatProtocol(
        name="ai-sdk",
        section="AI SDK and plain text",
        promise="A page that resumes, or is loaded, holds the message that a page holds that was never cut.",
        offered=lambda server, chat: server.offers("GET", f"api/chat/{in_path(chat)}"),
        client=_page,
    ),
    ChatProtocol(
        name="ai-sdk-socket",
        section="AI SDK and plain text",
        promise="The same over the WebSocket of the AI SDK.",
        offered=lambda server, chat: server.offers_socket("api/chat"),
        client=_socket_page,
    ),
    ChatProtocol(
        name="text",
        section="AI SDK and plain text",
        promise="Plain text that was cut is the beginning of the text that is loaded.",
        offered=lambda server, chat: server.offers("GET", f"api/chats/{in_path(chat)}/stream"),
        client=_reader,
        remark="cannot be resumed: loaded instead",
    ),
    ChatProtocol(
        name="ag-ui",
        section="AG-UI",
        promise="An agent that runs again holds the messages of one that was never cut, in their order.",
        offered=lambda server, chat: server.offers("POST", "ag-ui", {}),
        client=_agent,
    ),
    ChatProtocol(
        name="phases",
        section="A WebSocket in three phases",
        promise="A client that comes back with its position receives exactly what it missed.",
        offered=lambda server, chat: server.offers_socket("ws", session_id=chat),
        client=_phases,
    ),
    ChatProtocol(
        name="state",
        section="The slice of the chat",
        promise="A subscriber that comes back with its cursor receives exactly what it missed.",
        offered=lambda server, chat: server.offers("GET", f"stream/state?slices=chat/{in_path(chat)}"),
        client=_subscriber,
        asks=False,
    ),
)
