"""Nested runs: an agent that works for another agent, or for a tool, within the same reply.

The reply shows a nested run as a tool call: the name of the agent, and what it is to do. Everything that the agent
yields is in parts of their own, whose member `of` is the id of that call. Its final text is the result of the call.

Invariants: a nested run has the rights and the time of the reply that it belongs to, and ends with it. However it ends,
its call has an outcome. It never waits for people, because its caller waits for it in memory.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Final

from msgspec.structs import replace

from statestream.chat.agents import AgentPiece, Status, Task, ToolResult
from statestream.chat.agents.context import Context
from statestream.chat.agents.declared import Agent, Agents
from statestream.chat.models import ModelFailed, Piece, Refusal, Turn, Usage
from statestream.chat.replies.growth import cleaned
from statestream.chat.replies.intake import Intake
from statestream.chat.replies.model_calls import agent_span
from statestream.chat.replies.reply_builder import ReplyBuilder
from statestream.chat.replies.tools import error_of, outcome_of
from statestream.core.errors import Refused, StatestreamError

log = logging.getLogger("statestream")

MAX_DEPTH: Final = 3
"""How many nested runs there can be in each other."""
STOPPED: Final = "The run was stopped."


class NestedRuns:
    """The nested runs of whoever adds to `builder`: a reply, or a nested run at that depth."""

    def __init__(self, intake: Intake, builder: ReplyBuilder, agents: Agents, depth: int = 0) -> None:
        self._intake, self._builder, self._agents, self._depth = intake, builder, agents, depth

    async def run(self, context: Context, name: str, text: str) -> str:
        """The final text of an agent that is given a task. Raises Refused if there is none, with the reason."""
        agent = self._agents.named(name)
        if self._depth == MAX_DEPTH:
            raise Refused("too_deep", f"At most {MAX_DEPTH} agents can work for each other, one within the other.")
        call = self._builder.begin_run(agent.name, text, context.call)
        self._intake.news.set()
        outcome = error_of(STOPPED)
        try:
            said = await self._said(agent, _task(context, call, text), context, call)
            outcome = outcome_of(agent.name, said)
        except ModelFailed as failure:
            outcome = error_of(str(failure))
            raise Refused(failure.kind, str(failure)) from None
        except StatestreamError as error:
            outcome = error_of(str(error))
            raise
        except Exception:
            log.exception("the agent %s failed", agent.name)
            outcome = error_of(f"{agent.name} stopped with an error.")
            raise Refused("failed", outcome["error"]) from None
        finally:
            self._builder.end_run(call, outcome)
            self._intake.news.set()
        if "error" in outcome:
            raise Refused("too_long", outcome["error"])
        return said

    def note(self, piece: Piece | Status) -> None:
        """A model has yielded a piece that is not shown, and that counts all the same."""
        self._intake.heard()
        if isinstance(piece, Usage):
            self._intake.take(piece)

    async def _said(self, agent: Agent, task: Task, context: Context, call: str) -> str:
        """The final text of the agent, whose pieces become parts of the reply as they come."""
        builder, said = self._builder.nested(call), _Said()
        nested = context.of_run(agent.name, NestedRuns(self._intake, builder, self._agents, self._depth + 1))
        with agent_span(agent.name, task.chat):
            async with (
                contextlib.aclosing(agent.execute(task, nested)) as pieces,
                contextlib.aclosing(nested.keeping(pieces)) as with_stored,
            ):
                async for each in self._intake.within_budget(with_stored):
                    piece = replace(each, model=each.model or agent.name) if isinstance(each, Usage) else each
                    await self._intake.take_nested(builder, piece)
                    said.add(piece)
        return cleaned(said.text(agent.name))


class _Said:
    """What an agent says: its final text is what follows the last outcome of a tool, if anything does."""

    def __init__(self) -> None:
        self._before, self._last = "", ""
        self._declined = False

    def add(self, piece: AgentPiece) -> None:
        if isinstance(piece, str):
            self._last += piece
        elif isinstance(piece, ToolResult) and self._last:
            self._before, self._last = self._last, ""
        self._declined = self._declined or isinstance(piece, Refusal)

    def text(self, name: str) -> str:
        """Raises ModelFailed if there is none."""
        if self._declined:
            raise ModelFailed("refused", "The model declined to answer.")
        text = self._last if self._last.strip() else self._before
        if not text.strip():
            raise ModelFailed("empty", f"{name} said nothing.")
        return text


def _task(context: Context, call: str, text: str) -> Task:
    """The task as a question of its own: the agent is not told of the conversation."""
    id, parts = f"{context.reply}:{call}", [{"type": "text", "text": text}]
    question = {"id": id, "role": "user", "status": "complete", "parts": parts}
    turns = [Turn(role="user", text=text)]
    return Task(chat=context.chat, reply=context.reply, question=question, messages=[question], turns=turns)
