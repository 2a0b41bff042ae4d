"""Agents of Pydantic AI in a chat: their text, thoughts, tools and output as pieces of a reply.

    from statestream.chat.agents import pydantic_ai

    helper = Agent("openai:gpt-5-mini", instructions="Be kind.", deps_type=Context)

    @chat.agent
    async def support(task, context):
        async for piece in pydantic_ai.run(helper, task, context):
            yield piece

Tools get the context as `ctx.deps`, so that they can read the state and dispatch actions as the person who asks. If one
of them needs approval, the reply waits until somebody has decided.

The tools of the front end are external tools of the framework: the reply waits until a window has run them.

Invariants: the conversation comes from the chat. The framework's own history is kept only for a waiting reply, until
that reply ends. An error of a model becomes ModelFailed with a sentence of ours, because the framework's messages may
quote prompts.
"""

from __future__ import annotations

import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from statestream.chat.agents import AgentPiece, Task, ToolResult, ToolUse
from statestream.chat.agents.adapting import arguments_of, as_json, is_new, is_to_end, output, require, shown_arguments
from statestream.chat.agents.context import Context
from statestream.chat.approvals import DENIED
from statestream.chat.models import Finish, ModelFailed, Reasoning, Turn, Usage
from statestream.chat.models.failures import BROKEN_OFF, CUT_OFF, LATE, OTHERWISE, SENTENCES

if TYPE_CHECKING:
    from pydantic_ai import Agent, DeferredToolResults
    from pydantic_ai.messages import ModelMessage, UserContent

log = logging.getLogger("statestream")

KEPT: Final = "pydantic_ai"
"""The name under which the messages of a waiting reply are stored."""


async def run(agent: Agent[Any, Any], task: Task, context: Context, *, deps: Any = None) -> AsyncIterator[AgentPiece]:
    """Has an agent answer the question of a task, and yields the pieces of the reply.

    `deps` is what the agent's tools get; None: the context. An output that is not text becomes Data with the name
    `output`. Raises ModelFailed.
    """
    require("pydantic_ai", "pydantic-ai")
    from pydantic_ai import AgentRunResultEvent, DeferredToolRequests
    from pydantic_ai.exceptions import AgentRunError

    tools = _of_front_end(agent, task)
    more: Any = {} if tools is None else {"toolsets": [tools], "output_type": _with_requests(agent.output_type)}
    prompt, history, results = _beginning(task, context)
    stream = agent.run_stream_events(
        prompt,
        message_history=history,
        deferred_tool_results=results,
        deps=context if deps is None else deps,
        **more,
    )
    try:
        async with stream as events:
            async for event in events:
                if isinstance(event, AgentRunResultEvent) and isinstance(event.result.output, DeferredToolRequests):
                    for piece in await _pause(event.result, task, context):
                        yield piece
                    continue
                for piece in _pieces(event, task):
                    yield piece
    except AgentRunError as error:
        log.warning("the agent's model failed: %s", type(error).__name__)
        raise _failure(error) from None


# tools of the front end


def _of_front_end(agent: Agent[Any, Any], task: Task) -> Any:
    """The tools that the front end runs, as a toolset; None if there are none. The agent's own tools come first."""
    from pydantic_ai import ExternalToolset, ToolDefinition

    own = {name for toolset in agent.toolsets for name in getattr(toolset, "tools", ())}
    tools = [
        ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=dict(tool.parameters))
        for tool in task.tools
        if tool.name not in own
    ]
    return ExternalToolset(tools) if tools else None


def _with_requests(output: Any) -> list[Any]:
    """The types of an agent's output, with the one for calls that the framework does not run itself."""
    from pydantic_ai import DeferredToolRequests

    types = list(output) if isinstance(output, list | tuple) else [output]
    return types if DeferredToolRequests in types else [*types, DeferredToolRequests]


# a reply that waits


def _beginning(task: Task, context: Context) -> tuple[Any, list[ModelMessage], DeferredToolResults | None]:
    """The prompt, the history, and, if the reply has waited, the decisions about its tools."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    history = list(_history(task.turns[:-1]))
    if KEPT not in context.stored or not task.has_waited:
        return _prompt(task.turns[-1]), history, None
    kept = context.stored[KEPT]
    messages = ModelMessagesTypeAdapter.validate_python(kept["messages"])
    return None, [*history, *messages], _results(task, kept["calls"])


def _results(task: Task, calls: Sequence[str]) -> DeferredToolResults:
    """The decisions about these calls, or their results, for which the reply has waited most recently."""
    from pydantic_ai import DeferredToolResults, ToolApproved, ToolDenied

    results = DeferredToolResults()
    for id in calls:
        if id in task.answered:
            answer = task.answered[id]
            results.calls[id] = answer.result if answer.error is None else {"error": answer.error}
            continue
        decided = task.decided[id]
        approved = ToolApproved(override_args=dict(decided.arguments))
        results.approvals[id] = approved if decided.approved else ToolDenied(decided.reason or DENIED)
    return results


async def _pause(result: Any, task: Task, context: Context) -> list[AgentPiece]:
    """Keeps the messages of the run, and asks for approval, or for a window. Raises ModelFailed."""
    from pydantic_ai.messages import ModelMessagesTypeAdapter

    offered, calls = result.output.calls, result.output.approvals
    if any(call.tool_name not in {tool.name for tool in task.tools} for call in offered):
        raise ModelFailed("failed", "The agent called a tool that runs elsewhere.")
    before = context.stored[KEPT]["messages"] if task.has_waited and KEPT in context.stored else ()
    made = ModelMessagesTypeAdapter.dump_python(result.new_messages(), mode="json")
    await context.store(
        KEPT, {"messages": [*before, *made], "calls": [call.tool_call_id for call in (*calls, *offered)]}
    )
    uses = [*(_use(call, approval=True) for call in calls), *(_use(call, frontend=True) for call in offered)]
    return [*uses, _usage(result.usage)]


def _use(call: Any, *, approval: bool = False, frontend: bool = False) -> ToolUse:
    arguments = shown_arguments(call.args) if approval or frontend else arguments_of(call.args)
    return ToolUse(id=call.tool_call_id, name=call.tool_name, arguments=arguments, approval=approval, frontend=frontend)


# what the agent says


def _pieces(event: Any, task: Task) -> Iterator[AgentPiece]:
    """The pieces for an event. Calls for which the reply has waited are in it already."""
    from pydantic_ai import AgentRunResultEvent
    from pydantic_ai.messages import (
        FunctionToolCallEvent,
        FunctionToolResultEvent,
        PartDeltaEvent,
        PartStartEvent,
        TextPart,
        TextPartDelta,
        ThinkingPart,
        ThinkingPartDelta,
    )

    match event:
        case PartStartEvent(part=TextPart(content=text)) | PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            yield text
        case PartStartEvent(part=ThinkingPart(content=text)):
            yield Reasoning(text=text)
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(text))):
            yield Reasoning(text=text)
        case FunctionToolCallEvent(part=call) if is_new(task, call.tool_call_id):
            yield _use(call)
        case FunctionToolResultEvent(part=part) if is_to_end(task, part.tool_call_id):
            yield _result(part)
        case AgentRunResultEvent(result=result):
            yield from _end(result)


def _result(part: Any) -> ToolResult:
    from pydantic_ai.messages import RetryPromptPart

    if isinstance(part, RetryPromptPart) or part.outcome != "success":
        return ToolResult(id=part.tool_call_id, error=_sentence(part.content))
    return ToolResult(id=part.tool_call_id, result=as_json(part.content))


def _sentence(content: Any) -> str:
    """What the model is told of a tool that has failed: text, or an object with it."""
    with contextlib.suppress(ValueError):
        content = orjson.loads(content) if isinstance(content, str) else content
    said = content.get("error") if isinstance(content, dict) else content
    return said if isinstance(said, str) else "The tool failed."


def _end(result: Any) -> Iterator[AgentPiece]:
    if not isinstance(result.output, str):
        yield output(result.output)
    yield _usage(result.usage)
    yield Finish(reason=result.response.finish_reason or "stop")


def _usage(used: Any) -> Usage:
    return Usage(
        input=used.input_tokens,
        output=used.output_tokens,
        reasoning=used.output_reasoning_tokens or 0,
        cached=used.cache_read_tokens,
    )


# the conversation


def _history(turns: Sequence[Turn]) -> Iterator[ModelMessage]:
    from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart

    names: dict[str, str] = {}
    for turn in turns:
        if turn.role == "user":
            yield ModelRequest(parts=[UserPromptPart(content=_prompt(turn))])
        elif turn.role == "tool":
            returned = ToolReturnPart(tool_name=names[turn.answers], content=turn.text, tool_call_id=turn.answers)
            yield ModelRequest(parts=[returned])
        else:
            names |= {call.id: call.name for call in turn.calls}
            calls = [
                ToolCallPart(tool_name=each.name, args=each.arguments, tool_call_id=each.id) for each in turn.calls
            ]
            text = [TextPart(content=turn.text)] if turn.text else []
            yield ModelResponse(parts=[*text, *calls])


def _prompt(turn: Turn) -> str | list[UserContent]:
    urls = [*turn.images, *(each.url for each in turn.documents)]
    return [*([turn.text] if turn.text else []), *map(_file, urls)] if urls else turn.text


def _file(url: str) -> UserContent:
    from pydantic_ai.messages import BinaryContent, ImageUrl

    head, comma, data = url.partition(";base64,")
    if not comma or not head.startswith("data:"):
        return ImageUrl(url=url)
    return BinaryContent(data=base64.b64decode(data), media_type=head.removeprefix("data:"))


def _failure(error: Exception) -> ModelFailed:
    from pydantic_ai.exceptions import ModelConnectionError, ModelHTTPError, ModelTimeoutError, UsageLimitExceeded

    if isinstance(error, ModelHTTPError):
        return ModelFailed(*SENTENCES.get(error.status_code, OTHERWISE))
    if isinstance(error, ModelTimeoutError):
        return ModelFailed(*LATE)
    if isinstance(error, ModelConnectionError):
        return ModelFailed(*CUT_OFF)
    if isinstance(error, UsageLimitExceeded):
        return ModelFailed("usage_limit", "The reply has used up what it may use.")
    return ModelFailed(*BROKEN_OFF)
