"""How a chat is configured.

Invariants: plain data, set once when a Chat is made.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from statestream.chat.agents.declared import Agents
from statestream.chat.files import Files
from statestream.chat.mcp.server import ToolServer
from statestream.chat.models import Model
from statestream.chat.models.settings import ModelSettings
from statestream.chat.replies.tools import Tools


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds after which a reply is given up: without a first piece, without a further one, in all; and per tool."""

    first: float = 60.0
    idle: float = 60.0
    total: float = 300.0
    tool: float = 30.0


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of a Chat, which describes them. `chosen`: whether the application has chosen the model.

    `asking` are the settings of requests to the model.
    """

    model: Model
    chosen: bool
    asking: ModelSettings
    agents: Agents
    tools: Tools
    servers: Sequence[ToolServer]
    timeouts: Timeouts
    window: int
    keep: int
    lease: float
    titles: bool
    files: Files
