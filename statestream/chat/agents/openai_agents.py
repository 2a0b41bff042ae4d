"""Agents of the OpenAI Agents SDK in a chat: their text, thoughts, tools, hand-offs and output as pieces of a reply.

    from statestream.chat.agents import openai_agents

    helper = Agent(name="helper", instructions="Be kind.")

    @chat.agent
    async def support(task, context):
        async for piece in openai_agents.run(helper, task, context):
            yield piece

Tools get the context as `wrapper.context`, so that they can read the state and dispatch actions as the person who asks.
If one of them needs approval, the reply waits until somebody has decided.

Invariants: the conversation comes from the chat; no session of the SDK is used. The state of a run is kept only while
its reply waits. The SDK sends traces only if the application asks for them: by default, they would go to OpenAI, with
what people write. An error of a model becomes ModelFailed with a sentence of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from statestream.chat.agents import AgentPiece, Speaker, Task, ToolResult, ToolUse
from statestream.chat.agents.adapting import arguments_of, as_json, is_new, is_to_end, output, require, shown_arguments
from statestream.chat.agents.context import Context
from statestream.chat.approvals import DENIED, Decided
from statestream.chat.models import ModelFailed, Reasoning, Refusal, Turn, Usage
from statestream.chat.models.failures import BROKEN_OFF, LATE, failure_of
from statestream.chat.replies.grace import GRACE_SECONDS

if TYPE_CHECKING:
    from agents import Agent, RunConfig
    from agents.items import TResponseInputItem

log = logging.getLogger("statestream")

KEPT: Final = "openai_agents"
"""The name under which the state of a waiting run is stored."""


async def run(
    agent: Agent[Any], task: Task, context: Context, *, config: RunConfig | None = None
) -> AsyncIterator[AgentPiece]:
    """Has an agent answer the question of a task, and yields the pieces of the reply.

    Tools get the context. `config` has the SDK's settings of the run. When the agent hands over to another one, a part
    of the reply says so. An output that is not text becomes Data with the name `output`. Raises ModelFailed.
    """
    require("agents", "openai-agents")
    from agents import RunConfig, Runner
    from agents.exceptions import AgentsException
    from openai import OpenAIError

    settings = config or RunConfig(tracing_disabled=True)
    offered = _of_front_end(agent, task)
    agent = agent.clone(tools=[*agent.tools, *offered.values()]) if offered else agent
    beginning = await _beginning(agent, task, context)
    running = Runner.run_streamed(agent, beginning, context=context, run_config=settings)
    stream: Any = running.stream_events()  # a generator, which its type does not say
    try:
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                for piece in _pieces(event, agent, task):
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
    for piece in await _end(running, context, offered):
        yield piece


def _of_front_end(agent: Agent[Any], task: Task) -> dict[str, Any]:
    """The tools that the front end runs, by name. The agent's own tools come first.

    To the SDK, they need approval. Once a window has run a call, it is approved, and its result is there.
    """
    from agents import FunctionTool

    async def result_of(context: Any, _: str) -> str:
        answer = task.answered[context.tool_call_id]
        return orjson.dumps(answer.result).decode() if answer.error is None else answer.error

    own = {tool.name for tool in agent.tools}
    return {
        tool.name: FunctionTool(
            name=tool.name,
            description=tool.description,
            params_json_schema=dict(tool.parameters),
            on_invoke_tool=result_of,
            strict_json_schema=False,
            needs_approval=True,
        )
        for tool in task.tools
        if tool.name not in own
    }


async def _end(running: Any, context: Context, offered: Mapping[str, Any]) -> list[AgentPiece]:
    """What follows the events: calls that need approval or a window, or an output that is not text, and the usage.

    `offered` are the tools of the front end.
    """
    used = running.context_wrapper.usage
    usage = Usage(
        input=used.input_tokens,
        output=used.output_tokens,
        reasoning=used.output_tokens_details.reasoning_tokens,
        cached=used.input_tokens_details.cached_tokens,
    )
    if running.interruptions:
        await context.store(KEPT, running.to_state().to_json(context_serializer=lambda _: {}))
        calls = [each.raw_item for each in running.interruptions]
        return [*(_waiting(call, frontend=_member(call, "name") in offered) for call in calls), usage]
    shown = [] if isinstance(running.final_output, str) else [output(running.final_output)]
    return [*shown, usage]


# a reply that waits


async def _beginning(agent: Agent[Any], task: Task, context: Context) -> Any:
    """The conversation, or the state of a run that has waited, with the decisions."""
    if KEPT not in context.stored or not task.has_waited:
        return _items(task.turns)
    from agents import RunContextWrapper, RunState

    override: Any = RunContextWrapper(context)
    state: Any = await RunState.from_json(agent, context.stored[KEPT], context_override=override)
    for call in state.get_interruptions():
        if (id := _member(call.raw_item, "call_id")) in task.answered:
            state.approve(call)
            continue
        decided = task.decided[id]
        if decided.approved and decided.arguments == shown_arguments(_member(call.raw_item, "arguments")):
            state.approve(call)
        else:
            state.reject(call, rejection_message=_told(decided))
    return state


def _told(decided: Decided) -> str:
    """What the model is told instead of a result. The SDK runs a call only as the model has written it."""
    if decided.approved:
        return f"A person wants this call with other arguments: {orjson.dumps(decided.arguments).decode()}"
    return decided.reason or DENIED


# what the agent says


def _pieces(event: Any, agent: Agent[Any], task: Task) -> Iterator[AgentPiece]:
    """The pieces for an event. Calls for which the reply has waited are in it already."""
    if event.type == "agent_updated_stream_event":
        if event.new_agent is not agent:
            yield Speaker(agent=event.new_agent.name)
    elif event.type == "raw_response_event":
        yield from _of_model(event.data)
    elif event.name == "tool_called":
        if is_new(task, _member(event.item.raw_item, "call_id")):
            yield _use(event.item.raw_item)
    elif event.name == "tool_output" and is_to_end(task, id := _member(event.item.raw_item, "call_id")):
        yield ToolResult(id=id, result=as_json(event.item.output))


def _of_model(data: Any) -> Iterator[AgentPiece]:
    if data.type == "response.output_text.delta":
        yield str(data.delta)
    elif data.type in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
        yield Reasoning(text=data.delta)
    elif data.type == "response.refusal.delta":
        yield Refusal(text=data.delta)


def _use(call: Any) -> ToolUse:
    return ToolUse(id=_member(call, "call_id"), name=_member(call, "name"), arguments=_arguments(call))


def _waiting(call: Any, *, frontend: bool) -> ToolUse:
    """A call that waits for approval, or for a window."""
    arguments = shown_arguments(_member(call, "arguments"))
    id, name = _member(call, "call_id"), _member(call, "name")
    return ToolUse(id=id, name=name, arguments=arguments, approval=not frontend, frontend=frontend)


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
        if turn.role == "assistant" and turn.text:
            items.append(_said(turn.text))
        elif turn.text or turn.images or turn.documents:
            items.append({"role": turn.role, "content": _content(turn)})
        items += [
            {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
            for call in turn.calls
        ]
    return items


def _said(text: str) -> Any:
    """An earlier answer. In this form, the SDK sends it together with the calls that follow, as providers require."""
    from agents.models.fake_id import FAKE_RESPONSES_ID

    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "type": "message",
        "id": FAKE_RESPONSES_ID,
        "role": "assistant",
        "status": "completed",
        "content": content,
    }


def _content(turn: Turn) -> Any:
    if not turn.images and not turn.documents:
        return turn.text
    text = [{"type": "input_text", "text": turn.text}] if turn.text else []
    images = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in turn.images]
    files = [{"type": "input_file", "filename": each.name, "file_data": each.url} for each in turn.documents]
    return [*text, *images, *files]


def _failure(error: Exception) -> ModelFailed:
    from agents.exceptions import MaxTurnsExceeded, ModelRefusalError, ModelTimeoutError

    if isinstance(error, MaxTurnsExceeded):
        return ModelFailed("too_many_steps", "The model called tools again and again without answering.")
    if isinstance(error, ModelRefusalError):
        return ModelFailed("refused", "The model declined to answer.")
    if isinstance(error, ModelTimeoutError):
        return ModelFailed(*LATE)
    return ModelFailed(*BROKEN_OFF)
