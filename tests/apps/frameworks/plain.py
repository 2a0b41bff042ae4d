"""An agent without a framework: it asks a model, runs the tools that the model calls, and asks again."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from msgspec import convert, to_builtins

from statestream.chat.agents import AgentPiece, Task, ToolResult, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.models import CallPiece, Finish, ToolCall, ToolSpec, Turn
from statestream.chat.models.openai import OpenAIModel

WHAT = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
SPECS = [ToolSpec(name=name, description=f"To {name} things.", parameters=WHAT) for name in ("order", "buy", "wait")]


def made(
    upstream: str, order: Callable[[Context, str], Awaitable[list[str]]], wait: Callable[[str], Awaitable[str]]
) -> tuple[Any, Any]:
    """What runs an agent by its name, and what closes its connections."""
    os.environ.setdefault("OPENAI_API_KEY", "sk-canary")
    model = OpenAIModel("test-model", base_url=upstream)

    async def outcome(name: str, arguments: Mapping[str, Any], context: Context) -> Any:
        return await wait(arguments["what"]) if name == "wait" else await order(context, arguments["what"])

    async def run(name: str, task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        turns = list(task.turns)
        for id, decided in task.decided.items():
            turns, text = convert(context.stored["turns"], list[Turn]), "A person has denied this call."
            if decided.approved:
                result = await outcome("buy", decided.arguments, context)
                yield ToolResult(id=id, result=result)
                text = json.dumps(result)
            turns.append(Turn(role="tool", text=text, answers=id))
        while True:
            text, pieces = "", list[CallPiece]()
            async for piece in context.answer(model, turns, SPECS):
                if isinstance(piece, CallPiece):
                    pieces.append(piece)
                elif not isinstance(piece, Finish):
                    text += piece if isinstance(piece, str) else ""
                    yield piece
            if not pieces:
                return
            call = ToolCall(id=pieces[0].id, name=pieces[0].name, arguments="".join(p.arguments for p in pieces))
            turns.append(Turn(role="assistant", text=text, calls=(call,)))
            arguments = json.loads(call.arguments)
            yield ToolUse(id=call.id, name=call.name, arguments=arguments, approval=call.name == "buy")
            if call.name == "buy":
                await context.store("turns", to_builtins(turns))
                return
            result = await outcome(call.name, arguments, context)
            yield ToolResult(id=call.id, result=result)
            turns.append(Turn(role="tool", text=json.dumps(result), answers=call.id))

    return run, model.close
