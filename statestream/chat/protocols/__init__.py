"""The protocols of a chat: a folder each, with its requests, its projection and its routes.

To add a protocol, add a folder whose `routes.py` has a function `routes`, and add that to PROTOCOLS.

Invariants: a route parses its request, visits the conversations on behalf of its sender, and shows the result through a
projection. A response is one viewer: that it ends early ends nothing else. No protocol depends on a model, or on where
a reply is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from statestream.chat.conversations import Conversations
from statestream.chat.protocols.ag_ui.routes import routes as ag_ui
from statestream.chat.protocols.ai_sdk.routes import routes as ai_sdk
from statestream.chat.protocols.ai_socket.routes import routes as ai_socket
from statestream.chat.protocols.phases.routes import routes as phases
from statestream.chat.protocols.rest.approvals import routes as approvals
from statestream.chat.protocols.rest.files import routes as files
from statestream.chat.protocols.rest.people import routes as people
from statestream.chat.protocols.rest.queue import routes as queue
from statestream.chat.protocols.rest.routes import routes as rest
from statestream.chat.protocols.text.routes import routes as text
from statestream.server.contract import Route

PROTOCOLS: Final[Sequence[Callable[[Conversations], list[Route]]]] = (
    rest,
    people,
    files,
    approvals,
    queue,
    text,
    ai_sdk,
    ai_socket,
    ag_ui,
    phases,
)


def routes(conversations: Conversations) -> list[Route]:
    """The routes of all protocols."""
    return [route for protocol in PROTOCOLS for route in protocol(conversations)]
