"""Makes a reply with an agent.

Invariants: a reader only fills the intake. Whatever an agent does, `read` returns how the reply is to end: an exception
is an error of the reply, whose details are in the log only. An agent that is stopped is cancelled where it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, get_args

from statestream.chat.agents import AgentPiece, Data, Source, Status, Task, ToolResult, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.agents.declared import Agent
from statestream.chat.models import Finish, ModelFailed, Refusal
from statestream.chat.replies.ends import DECLINED, End, complete, failed
from statestream.chat.replies.intake import Intake
from statestream.chat.replies.tools import error_of, outcome_of
from statestream.chat.settings import Timeouts
from statestream.core.errors import Refused
from statestream.store.slow_calls import SlowCalls, Stepped

log = logging.getLogger("statestream")

BROKEN: Final = failed("failed", "The agent stopped with an error.")
SILENT: Final = failed("empty", "The agent said nothing.")
LATE: Final = failed("timeout", "The agent did not answer in time.")
PIECES: Final = get_args(AgentPiece)
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
MAX_URL: Final = 2_048
MAX_TITLE: Final = 500


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
                steps = self._execute(intake, await self._task())
                return await Stepped(steps, self._slow, "agent", self._agent.name)
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
                _take(intake, piece)
                await intake.pause()
        if declined:
            return DECLINED
        return SILENT if intake.builder.empty else complete(reason)


def _take(intake: Intake, piece: AgentPiece) -> None:
    """Raises ModelFailed if the reply cannot hold the piece; TypeError, ValueError and NotJSON if it is none."""
    builder = intake.builder
    if not isinstance(piece, PIECES):
        raise TypeError(f"expected the pieces of a reply, got {type(piece).__name__}")
    if isinstance(piece, ToolUse):
        builder.use(piece.id, piece.name, piece.arguments)
    elif isinstance(piece, ToolResult):
        builder.result(piece.id, outcome_of("the tool", piece.result) if piece.error is None else error_of(piece.error))
    elif isinstance(piece, Data):
        builder.whole(_data(piece))
    elif isinstance(piece, Source):
        builder.whole(_source(piece))
    elif isinstance(piece, Status):
        builder.status(piece.text)
    else:
        intake.take(piece)
        return
    intake.measurements.piece()
    intake.news.set()


def _data(piece: Data) -> dict[str, Any]:
    if not _NAME.fullmatch(piece.name):
        raise ValueError(f"expected the name of data to have 1 to 64 letters, digits, - and _, got {piece.name!r}")
    return {"type": f"data-{piece.name}", "data": piece.data}


def _source(piece: Source) -> dict[str, Any]:
    if len(piece.url) > MAX_URL or not piece.url.startswith(("https://", "http://")):
        raise ValueError(f"expected the URL of a source to begin with https://, in at most {MAX_URL} characters")
    return {"type": "source", "url": piece.url, **({"title": piece.title[:MAX_TITLE]} if piece.title else {})}
