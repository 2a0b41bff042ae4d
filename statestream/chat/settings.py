"""How a chat is configured.

Invariants: plain data, set once when a Chat is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict

from statestream.chat.agents.declared import Agents
from statestream.chat.files import Files
from statestream.chat.mcp.server import ToolServer
from statestream.chat.models import Model
from statestream.chat.models.settings import ModelSettings
from statestream.chat.prices import Budget, Price
from statestream.chat.replies.tools import Tools
from statestream.chat.shared_state import SharedState
from statestream.core.values import check_settings


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds after which a reply is given up: without a first piece, without a further one, in all; and per tool."""

    first: float = 60.0
    idle: float = 60.0
    total: float = 300.0
    tool: float = 30.0


WhileBusy = Literal["refuse", "queue"]
"""What happens to a question that is asked while a reply is unfinished."""


class Concurrency(Struct, frozen=True, kw_only=True):
    """How many replies a process makes at once. None means no limit.

    `total`: of all replies. `per_model`: of each model or agent. `per_person`: of each person who asks. Up to `queue`
    further replies wait for their turn; the server refuses any others. Raises TypeError and ValueError for anything
    that is not a number above 0.
    """

    total: int | None = None
    per_model: int | None = None
    per_person: int | None = None
    queue: int = 1_000

    def __post_init__(self) -> None:
        check_settings(**{name: value for name, value in asdict(self).items() if value is not None})


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
    shared: SharedState
    concurrency: Concurrency
    while_busy: WhileBusy
    retries: int
    prices: Mapping[str, Price]
    budget: Budget
