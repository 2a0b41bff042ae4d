"""Makes a reply with an agent, and with those to which it hands over.

Invariants: a reader only fills the intake. Whatever an agent does, `read` returns how the reply is to end: an exception
is an error of the reply, whose details are in the log only. An agent that is stopped is cancelled where it waits. While
a reply waits, nothing of its agent remains in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from statestream.chat.agents import HandOver, Task
from statestream.chat.agents.context import Context
from statestream.chat.agents.declared import Agent, Agents
from statestream.chat.models import ModelFailed
from statestream.chat.replies.ends import DECLINED, INTERRUPTED, WAITING, End, complete, failed
from statestream.chat.replies.intake import Intake
from statestream.chat.replies.model_calls import agent_span
from statestream.chat.replies.nested_runs import NestedRuns
from statestream.chat.settings import Timeouts
from statestream.core.errors import Refused, TooLarge, Unauthenticated, Unavailable
from statestream.store.slow_calls import SlowCalls, Stepped

log = logging.getLogger("statestream")

MAX_AGENTS: Final = 8
"""How many agents can work on a reply one after the other in one run."""
BROKEN: Final = failed("failed", "The agent stopped with an error.")
SILENT: Final = failed("empty", "The agent said nothing.")
LATE: Final = failed("timeout", "The agent did not answer in time.")
ENDLESS: Final = failed("too_many_steps", "The agents kept handing over without answering.")
NO_RIGHTS: Final = failed("unauthenticated", "The login of the person who asked is no longer valid.")


class AgentReader:
    """The reader of one reply. `agents` are all of the chat. `task` gives what the agent that makes the reply is to do,
    read from the chat.
    """

    def __init__(
        self,
        agent: Agent,
        agents: Agents,
        context: Context,
        timeouts: Timeouts,
        task: Callable[[], Awaitable[Task]],
        slow: SlowCalls,
    ) -> None:
        self._agent, self._agents, self._context, self._timeouts = agent, agents, context, timeouts
        self._task, self._slow = task, slow

    async def read(self, intake: Intake) -> End:
        """How the reply is to end."""
        whole = asyncio.timeout(self._timeouts.total)
        try:
            async with whole:
                await self._context.open()
                self._context.runner = NestedRuns(intake, intake.builder, self._agents)
                return await self._relay(intake)
        except ModelFailed as failure:
            return failed(failure.kind, str(failure))
        except Refused as refused:
            return failed(refused.reason, refused.sentence)
        except TooLarge as error:
            return failed("too_large", f"{str(error).capitalize()}.")
        except Unavailable:  # whoever asks again continues
            return INTERRUPTED
        except Unauthenticated:
            return NO_RIGHTS
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, TimeoutError) and whole.expired():
                return LATE
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            log.exception("the agent %s failed", self._agent.name)
            return BROKEN

    async def _relay(self, intake: Intake) -> End:
        """Runs the agent, then those to which the reply is handed over, one after the other."""
        for _ in range(MAX_AGENTS):
            task = await self._task()
            with agent_span(self._agent.name, task.chat):
                steps = self._execute(intake, task)
                end = await Stepped(steps, self._slow, "agent", self._agent.name)
            if not isinstance(end, HandOver):
                return end
            agent = self._agents.named(end.agent)
            intake.builder.hand_over(agent.name, self._agent.name, end.note)
            await intake.in_the_chat()  # the task of the next agent is read from there
            self._agent = agent
            intake.spending.maker = agent.name
        return ENDLESS

    async def _execute(self, intake: Intake, task: Task) -> End | HandOver:
        silence = asyncio.timeout(None)
        try:
            async with (
                silence,
                contextlib.aclosing(self._agent.execute(task, self._context)) as pieces,
                contextlib.aclosing(self._context.keeping(pieces)) as with_stored,
            ):
                silence.reschedule(asyncio.get_running_loop().time() + self._timeouts.first)
                kept = intake.within_budget(with_stored)
                taken = await intake.read(kept, silence, self._timeouts.idle)
        except TimeoutError:
            if silence.expired():
                return LATE
            raise
        if taken.to is not None:
            return taken.to
        if taken.declined:
            return DECLINED
        if intake.builder.waiting:
            return WAITING
        return SILENT if intake.builder.empty else complete("stop" if taken.reason is None else taken.reason)


def _is_cancelled() -> bool:
    """Whether this task itself was cancelled, and not something that the agent waits for."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
