"""Makes a reply with an agent.

Invariants: a reader only fills the intake. Whatever an agent does, `read` returns how the reply is to end: an exception
is an error of the reply, whose details are in the log only. An agent that is stopped is cancelled where it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from statestream.chat.agents import Task
from statestream.chat.agents.context import Context
from statestream.chat.agents.declared import Agent
from statestream.chat.models import Finish, ModelFailed, Refusal
from statestream.chat.replies.ends import DECLINED, End, complete, failed
from statestream.chat.replies.intake import Intake
from statestream.chat.replies.model_calls import agent_span
from statestream.chat.settings import Timeouts
from statestream.core.errors import Refused
from statestream.store.slow_calls import SlowCalls, Stepped

log = logging.getLogger("statestream")

BROKEN: Final = failed("failed", "The agent stopped with an error.")
SILENT: Final = failed("empty", "The agent said nothing.")
LATE: Final = failed("timeout", "The agent did not answer in time.")


class AgentReader:
    """The reader of one reply. `task` gives what the agent is to do, read from the chat."""

    def __init__(
        self, agent: Agent, context: Context, timeouts: Timeouts, task: Callable[[], Awaitable[Task]], slow: SlowCalls
    ) -> None:
        self._agent, self._context, self._timeouts = agent, context, timeouts
        self._task, self._slow = task, slow

    async def read(self, intake: Intake) -> End:
        """How the reply is to end."""
        try:
            async with asyncio.timeout(self._timeouts.total):
                task = await self._task()
                await self._context.open(task.question["id"])
                with agent_span(self._agent.name, task.chat):
                    return await Stepped(self._execute(intake, task), self._slow, "agent", self._agent.name)
        except ModelFailed as failure:
            return failed(failure.kind, str(failure))
        except Refused as refused:
            return failed(refused.reason, str(refused))
        except TimeoutError:
            return LATE
        except Exception:
            log.exception("the agent %s failed", self._agent.name)
            return BROKEN

    async def _execute(self, intake: Intake, task: Task) -> End:
        reason, declined, loop = "stop", False, asyncio.get_running_loop()
        async with (
            asyncio.timeout(self._timeouts.first) as silence,
            contextlib.aclosing(self._agent.execute(task, self._context)) as pieces,
        ):
            async for piece in pieces:
                silence.reschedule(loop.time() + self._timeouts.idle)
                declined = declined or isinstance(piece, Refusal)
                reason = piece.reason if isinstance(piece, Finish) else reason
                intake.take(piece)
                await intake.pause()
        if declined:
            return DECLINED
        return SILENT if intake.builder.empty else complete(reason)
