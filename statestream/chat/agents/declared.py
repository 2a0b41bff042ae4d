"""The agents of a chat, by name.

Invariants: a function that cannot be an agent is refused when it is declared.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Any, Final

from msgspec import Struct

from statestream.chat.agents import AgentPiece, Task
from statestream.chat.agents.context import Context
from statestream.core.errors import Refused
from statestream.core.functions import kind_of
from statestream.core.suggestions import instead, named

Execute = Callable[[Task, Context], AsyncGenerator[AgentPiece, None]]
MAX_NAME: Final = 64
_NAME: Final = re.compile(rf"[a-zA-Z0-9_]{{1,{MAX_NAME}}}", re.ASCII)


class Agent(Struct, frozen=True, kw_only=True):
    """A function that makes replies, under its name. `internal`: only other agents and tools run it."""

    name: str
    execute: Execute
    internal: bool = False

    @classmethod
    def of(cls, function: Any, *, internal: bool = False) -> Agent:
        """Raises TypeError for what cannot be an agent."""
        name = getattr(function, "__name__", type(function).__name__)
        if not callable(function) or kind_of(function) != "async generator function":
            raise TypeError(f"expected an async generator as an agent, as in async def {name}(task, context): yield …")
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:
            raise TypeError(f"expected {name} to take (task, context), got {inspect.signature(function)}") from None
        if not _NAME.fullmatch(name):
            raise TypeError(f"expected an agent with a name of at most {MAX_NAME} letters, digits and _, got {name!r}")
        return cls(name=name, execute=function, internal=internal)


class Agents:
    """The agents of a chat. The first one that is declared answers questions that name none.

    No question can name an internal agent. If there are no others, the chat's model answers.
    """

    def __init__(self) -> None:
        self._agents: dict[str, Agent] = {}

    def __bool__(self) -> bool:
        return bool(self._public)

    @property
    def _public(self) -> list[str]:
        return [agent.name for agent in self._agents.values() if not agent.internal]

    def add(self, function: Any, *, internal: bool = False) -> None:
        """Raises TypeError, and ValueError if there is an agent with that name already."""
        agent = Agent.of(function, internal=internal)
        if self._agents.setdefault(agent.name, agent) is not agent:
            raise ValueError(f"there is an agent named {agent.name} already")

    def find(self, name: str | None) -> Agent | None:
        """The agent of that name, otherwise the first; None if no agent answers questions."""
        first = next((agent for agent in self._agents.values() if not agent.internal), None)
        return None if first is None else self._agents.get(name or "", first)

    def named(self, name: str) -> Agent:
        """The agent of that name, internal or not. Raises Refused."""
        self._check(name, self._agents)
        return self._agents[name]

    def check_continuing(self, name: str) -> None:
        """Raises Refused if the maker of a reply that waits is an agent that is no longer declared."""
        if self and name not in self._agents:
            raise Refused(
                "unknown_agent", f"There is no agent{named(name)} here any more. Stop the reply, then ask again."
            )

    def check(self, name: str | None) -> None:
        """Raises Refused if no question can name that agent."""
        if name is not None:
            self._check(name, self._public)

    def _check(self, name: str, known: Collection[str]) -> None:
        if name not in known:
            hint = instead(name, known, "agents")
            raise Refused("unknown_agent", f"There is no agent{named(name)} here{hint}")
