"""Makes a reply with a model and the tools that it calls.

The model answers in steps. After each step, the tools that the model has called run concurrently, and the next step
reads its turns from the chat. If some calls need approval, the others run first, and then the reply waits. After the
decisions, another reader continues. It first runs the approved calls.

Invariants: a call is in the chat as running before its tool runs. A reader only fills the intake. Whatever a model or a
tool does, `read` returns how the reply is to end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from statestream.chat.agents import Status
from statestream.chat.agents.context import Context
from statestream.chat.agents.declared import Agents
from statestream.chat.messages import is_object
from statestream.chat.models import Model, ModelFailed, Piece, ToolSpec, Turn
from statestream.chat.models.output import UNFIT, output_of
from statestream.chat.models.settings import ModelSettings
from statestream.chat.replies.calls import Call
from statestream.chat.replies.ends import (
    BROKEN_OFF,
    DECLINED,
    EMPTY,
    OVER_BUDGET,
    TIMED_OUT,
    TRUNCATED,
    WAITING,
    End,
    complete,
    failed,
)
from statestream.chat.replies.intake import Intake
from statestream.chat.replies.model_calls import tool_span
from statestream.chat.replies.nested_runs import NestedRuns
from statestream.chat.replies.tools import Tools
from statestream.chat.settings import Timeouts
from statestream.store.slow_calls import SlowCalls, Stepped
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

UNFIT_OUTPUT: Final = failed(*UNFIT)
MAX_STEPS: Final = 8
"""Steps of one run: answers of the model, with tools run in between."""
MAX_ALL_STEPS: Final = 40
"""Steps of one reply. One that waits again and again, for a window that answers by itself, would never end."""


class Asking(Struct, frozen=True, kw_only=True):
    """What a model is asked with: settings, and `tools` that the asker's front end runs."""

    settings: ModelSettings
    tools: Sequence[ToolSpec] = ()


class ModelReader:
    """The reader of one reply. `turns` gives what the model is to answer, read from the chat.

    `context` is for tools, and `agents` are those that tools can run. `approved` are the calls that were approved while
    the reply waited, by their parts, each with the view of the person who approved it.
    """

    def __init__(
        self,
        model: Model,
        asking: Asking,
        tools: Tools,
        timeouts: Timeouts,
        turns: Callable[[], Awaitable[Sequence[Turn]]],
        slow: SlowCalls,
        context: Context,
        agents: Agents,
        approved: Mapping[int, tuple[Call, StoreView]],
    ) -> None:
        self._model, self._settings, self._tools, self._timeouts = model, asking.settings, tools, timeouts
        self._declared = {tool.name: tool for tool in asking.tools}
        self._turns, self._slow, self._context, self._approved = turns, slow, context, approved
        self._agents = agents

    async def read(self, intake: Intake) -> End:
        """How the reply is to end."""
        try:
            async with asyncio.timeout(self._timeouts.total):
                await self._context.open()
                self._context.runner = NestedRuns(intake, intake.builder, self._agents)
                if self._approved:
                    await self._run(intake, {part: call for part, (call, _) in self._approved.items()})
                for _ in range(min(MAX_STEPS, MAX_ALL_STEPS - intake.builder.step)):
                    step = self._step(intake, await self._turns())
                    end = await Stepped(step, self._slow, "model", self._model.name)
                    if end is not None:
                        return end
                    if (exceeded := intake.spending.exceeded) is not None:
                        return failed(OVER_BUDGET, exceeded)
                    await self._run_tools(intake)
                    if intake.builder.waiting:
                        return WAITING
                    if (exceeded := intake.spending.exceeded) is not None:  # by agents that worked as tools
                        return failed(OVER_BUDGET, exceeded)
        except ModelFailed as failure:
            return failed(failure.kind, str(failure))
        except TimeoutError:
            return TIMED_OUT
        except Exception:
            log.exception("the model %s raised an unexpected exception", self._model.name)
            return BROKEN_OFF
        return failed("too_many_steps", "The model called tools again and again without answering.")

    async def _step(self, intake: Intake, turns: Sequence[Turn]) -> End | None:
        """How one answer of the model ended; None if it ended with tool calls."""
        said = _Said(intake)
        async with (
            asyncio.timeout(self._timeouts.first) as silence,
            self._context.asking(self._model, turns, self._specs(), self._settings) as pieces,
        ):
            taken = await intake.read(said.heard(pieces), silence, self._timeouts.idle)
        if taken.reason is None:
            return TRUNCATED
        if taken.declined:
            return DECLINED
        if intake.builder.calling:
            return None
        if intake.builder.empty:
            return EMPTY
        if self._settings.output is not None and not output_of(self._settings.output).fits(said.text):
            return TRUNCATED if taken.reason == "length" else UNFIT_OUTPUT
        return complete(taken.reason)

    def _specs(self) -> list[ToolSpec]:
        """All tools. Of two that have the same name, the chat's counts."""
        own = self._tools.specs
        names = {tool.name for tool in own}
        return [*own, *(tool for name, tool in self._declared.items() if name not in names)]

    def _in_front_end(self, call: Call) -> bool:
        if self._tools.has(call.name):
            return self._tools.in_front_end(call.name, call.arguments)
        return call.name in self._declared and is_object(call.arguments or "{}")

    async def _run_tools(self, intake: Intake) -> None:
        """Runs the tools that were called, except for those that need approval or run in a window. Returns once every
        outcome is in the chat.
        """
        calls = dict(intake.builder.calls)
        needs = {part: self._tools.needs(call.name, call.arguments) for part, call in calls.items()}
        needed = {part: approval for part, approval in needs.items() if approval is not None}
        offered = [part for part, call in calls.items() if self._in_front_end(call)]
        intake.builder.called(needed, offered)
        await intake.in_the_chat()  # so that a call that may have run is never taken for one that has not
        await self._run(intake, {part: calls[part] for part in calls if part not in needed and part not in offered})

    async def _run(self, intake: Intake, calls: Mapping[int, Call]) -> None:
        if not calls:
            return
        async with asyncio.TaskGroup() as running:
            for part, call in calls.items():
                running.create_task(self._run_tool(intake, part, call))
        await intake.in_the_chat()  # the next step reads its turns from there

    async def _run_tool(self, intake: Intake, part: int, call: Call) -> None:
        with tool_span(call.name, call.id, self._tools.specs) as span:
            _, view = self._approved.get(part, (call, None))
            context = self._context.of_call(call.id, view)
            outcome = await self._tools.run(call.name, call.arguments, self._timeouts.tool, context, self._slow)
            if span is not None and "error" in outcome:
                span.fail("tool_error")
        intake.builder.returned(part, outcome)
        intake.news.set()


class _Said:
    """The text of one answer of the model. A reply that continues another one begins with the text of that one."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._texts = [intake.builder.continued_text()]

    async def heard(self, pieces: AsyncIterator[Piece | Status]) -> AsyncIterator[Piece]:
        """The pieces of the model. A status of the call is shown at once, and does not count as a sign of the model."""
        async for piece in pieces:
            if isinstance(piece, Status):
                self._intake.take(piece)
                continue
            if isinstance(piece, str):
                self._texts.append(piece)
            yield piece

    @property
    def text(self) -> str:
        return "".join(self._texts)
