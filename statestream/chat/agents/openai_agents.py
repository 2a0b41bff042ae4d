"""Agents of the OpenAI Agents SDK in a chat: their text, thoughts, tools, hand-offs and output as pieces of a reply.

    from statestream.chat.agents import openai_agents

    helper = Agent(name="helper", instructions="Be kind.")

    @chat.agent
    async def support(task, context):
        async for piece in openai_agents.run(helper, task, context=context):
            yield piece

Tools get the context as `wrapper.context`, so that they can read the state and dispatch actions as the person who asks.

Invariants: the conversation is what the chat has; no session of the SDK is used. The SDK sends traces only if the
application says so: by default they would go to OpenAI, with what people write. An error of a model becomes ModelFailed
with a sentence of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from statestream.chat.agents import AgentPiece, Status, Task, ToolResult, ToolUse
from statestream.chat.agents.adapting import arguments_of, as_json, output, require
from statestream.chat.models import ModelFailed, Reasoning, Refusal, Turn, Usage
from statestream.chat.models.chunks import BROKEN_OFF, LATE
from statestream.chat.models.openai import failure_of
from statestream.chat.replies.grace import GRACE_SECONDS

if TYPE_CHECKING:
    from agents import Agent, RunConfig
    from agents.items import TResponseInputItem

log = logging.getLogger("statestream")


async def run(
    agent: Agent[Any], task: Task, *, context: Any = None, config: RunConfig | None = None
) -> AsyncIterator[AgentPiece]:
    """Has an agent answer the question of a task, and yields the pieces of the reply.

    `context` is what tools get, `config` the SDK's settings of the run. When the agent hands over to another one, the
    status names that. An output that is not text becomes Data with the name `output`. Raises ModelFailed.
    """
    require("agents", "openai-agents")
    from agents import RunConfig, Runner
    from agents.exceptions import AgentsException
    from openai import OpenAIError

    settings = config or RunConfig(tracing_disabled=True)
    running = Runner.run_streamed(agent, _items(task.turns), context=context, run_config=settings)
    stream: Any = running.stream_events()  # a generator, which its type does not say
    try:
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                for piece in _pieces(event, agent):
                    yield piece
    except AgentsException as error:
        log.warning("the agent failed: %s", type(error).__name__)
        raise _failure(error) from None
    except OpenAIError as error:
        log.warning("the agent's model failed: %s", type(error).__name__)
        raise failure_of(error) from None
    finally:
        running.cancel()
        if running.run_loop_task is not None:  # it closes the connection to the provider
            await asyncio.wait((running.run_loop_task,), timeout=GRACE_SECONDS)
    if not isinstance(running.final_output, str):
        yield output(running.final_output)
    used = running.context_wrapper.usage
    yield Usage(
        input=used.input_tokens,
        output=used.output_tokens,
        reasoning=used.output_tokens_details.reasoning_tokens,
        cached=used.input_tokens_details.cached_tokens,
    )


def _pieces(event: Any, agent: Agent[Any]) -> Iterator[AgentPiece]:
    if event.type == "agent_updated_stream_event":
        if event.new_agent is not agent:
            yield Status(text=f"{event.new_agent.name} continues")
    elif event.type == "raw_response_event":
        yield from _of_model(event.data)
    elif event.name == "tool_called":
        call = event.item.raw_item
        yield ToolUse(id=_member(call, "call_id"), name=_member(call, "name"), arguments=_arguments(call))
    elif event.name == "tool_output":
        yield ToolResult(id=_member(event.item.raw_item, "call_id"), result=as_json(event.item.output))


def _of_model(data: Any) -> Iterator[AgentPiece]:
    if data.type == "response.output_text.delta":
        yield str(data.delta)
    elif data.type in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
        yield Reasoning(text=data.delta)
    elif data.type == "response.refusal.delta":
        yield Refusal(text=data.delta)


def _member(item: Any, name: str) -> str:
    """A member of an item, which is an object or a dict."""
    return str(item[name] if isinstance(item, dict) else getattr(item, name))


def _arguments(call: Any) -> dict[str, Any]:
    return arguments_of(_member(call, "arguments"))


# the conversation


def _items(turns: Sequence[Turn]) -> list[TResponseInputItem]:
    items: list[Any] = []
    for turn in turns:
        if turn.role == "tool":
            items.append({"type": "function_call_output", "call_id": turn.answers, "output": turn.text})
            continue
        if turn.text or turn.images:
            items.append({"role": turn.role, "content": _content(turn)})
        items += [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
            for call in turn.calls
        ]
    return items


def _content(turn: Turn) -> Any:
    if not turn.images:
        return turn.text
    text = [{"type": "input_text", "text": turn.text}] if turn.text else []
    return [*text, *({"type": "input_image", "image_url": url, "detail": "auto"} for url in turn.images)]


def _failure(error: Exception) -> ModelFailed:
    from agents.exceptions import MaxTurnsExceeded, ModelRefusalError, ModelTimeoutError

    if isinstance(error, MaxTurnsExceeded):
        return ModelFailed("too_many_steps", "The model called tools again and again without answering.")
    if isinstance(error, ModelRefusalError):
        return ModelFailed("refused", "The model declined to answer.")
    if isinstance(error, ModelTimeoutError):
        return ModelFailed(*LATE)
    return ModelFailed(*BROKEN_OFF)
