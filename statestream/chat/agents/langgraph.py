"""LangGraph graphs in a chat: their text, thoughts, tools, data and output as pieces of a reply.

    from statestream.chat.agents import langgraph

    helper = create_agent("openai:gpt-5-mini", tools=[…], context_schema=Context)

    @chat.agent
    async def support(task, context):
        async for piece in langgraph.run(helper, task, context):
            yield piece

Tools and nodes get the context as `runtime.context`, so that they can read the state and dispatch actions as the person
who asks. If the graph is interrupted because a tool needs approval, the reply waits until somebody has decided.

Invariants: the conversation comes from the chat. Each question has its own thread of checkpoints. Only a run that
continues another one finds it, so no thread ever holds a message twice. An error of a model becomes ModelFailed with a
sentence of ours, because the framework's messages may quote prompts.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from statestream.chat.agents import AgentPiece, Data, Task, ToolResult, ToolUse
from statestream.chat.agents.adapting import arguments_of, as_json, is_to_end, output, require
from statestream.chat.agents.context import Context
from statestream.chat.agents.interrupts import answers, asked
from statestream.chat.models import Finish, ModelFailed, Reasoning, Turn, Usage
from statestream.chat.models.failures import CUT_OFF, LATE, OTHERWISE, SENTENCES
from statestream.core.values import loads

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage, ToolMessage
    from langchain_core.runnables import RunnableConfig
    from langgraph.pregel import Pregel
    from langgraph.types import StateSnapshot

log = logging.getLogger("statestream")

BEGUN: Final = "langgraph"
"""The stored value with this name says that a run with checkpoints has begun."""
CUSTOM: Final = "custom"
"""The name of the data that nodes and tools write to the stream."""
OUTPUT_KEY: Final = "structured_response"
"""The member of the state that holds the structured output of prebuilt agents."""
INTERRUPT: Final = "__interrupt__"
"""The member of an update that says what a graph waits for."""


async def run(
    graph: Pregel[Any, Any, Any, Any], task: Task, context: Context, *, config: RunnableConfig | None = None
) -> AsyncIterator[AgentPiece]:
    """Lets a graph answer the question of a task, and yields the pieces of the reply.

    The graph's state needs `messages`. Tools and nodes get the context. `config` has the framework's settings for the
    run. If the graph has a checkpointer, the run after an interrupted one shows what the earlier run has done, and
    continues from there. Raises ModelFailed.
    """
    require("langgraph", "langgraph")
    from langchain_core.exceptions import ModelError
    from langgraph.errors import GraphRecursionError
    from langgraph.types import Command

    settings = _settings(task, config)
    earlier = await _earlier(graph, context, settings)
    messages = _messages(task)
    reply = _Reply(messages)
    given: Any = {"messages": messages} if earlier is None else None
    for piece in () if earlier is None else reply.earlier(earlier, task.question["id"]):
        if not task.has_waited and task.continues is None:  # otherwise, they are in the reply already
            yield piece
    if earlier is not None and task.has_waited:
        given = Command(resume=answers(earlier.interrupts, reply.running, task))
    stream: Any = graph.astream(  # a generator, which its type does not say
        given,
        settings,
        context=context,
        stream_mode=["messages", "updates", "custom"],
        subgraphs=True,
        durability="sync" if graph.checkpointer else None,  # what people have seen is not done again
    )
    try:
        async with contextlib.aclosing(stream) as events:
            async for namespace, mode, data in events:
                for piece in reply.modes[mode](namespace, data):
                    if not isinstance(piece, ToolResult) or is_to_end(task, piece.id):
                        yield piece
    except (ModelError, GraphRecursionError) as error:
        log.warning("the graph's model failed: %s", type(error).__name__)
        raise _failure(error) from None
    if not reply.interrupts:
        await _forget(graph, settings)
    for call in asked(reply.interrupts, reply.running):
        yield call


class _Reply:
    """What the reply shows. `_done` are the messages that must not be shown again: whenever a subgraph ends, the graph
    repeats them together with those that it was given. `running` are the calls without an outcome, by their ids, and
    `interrupts` is what the graph waits for.
    """

    def __init__(self, given: Iterable[AnyMessage]) -> None:
        self._done = {message.id for message in given}
        self.running: dict[str, ToolUse] = {}
        self.interrupts: list[Any] = []
        self.modes = {"messages": self._of_message, "updates": self._of_update, "custom": self._custom}

    def earlier(self, state: StateSnapshot, question: str) -> Iterator[AgentPiece]:
        """What an interrupted run has done, including its subgraphs."""
        messages = list(_found(state.values))
        asked = next((at for at, message in enumerate(messages) if message.id == question), len(messages) - 1)
        self._done |= {message.id for message in messages[: asked + 1]}
        for message in messages:
            yield from self._of_message((), (message, {}))
            yield from self._tools(message)
        for each in state.tasks:
            if each.state is not None and not isinstance(each.state, dict):
                yield from self.earlier(each.state, question)

    def _of_message(self, _: Any, data: Any) -> Iterator[AgentPiece]:
        """A piece of a model's answer, or a message that a node has created."""
        message, metadata = data
        if not message.type.lower().startswith("ai") or message.id in self._done or "lc_source" in metadata:
            return  # middleware also asks models, for example for summaries
        for block in message.content_blocks:
            if block["type"] == "text" and block["text"]:
                yield block["text"]
            elif block["type"] == "reasoning" and block.get("reasoning"):
                yield Reasoning(text=block["reasoning"])
        if message.usage_metadata:
            yield _usage(message.usage_metadata)
        reason = message.response_metadata.get("finish_reason")
        if isinstance(reason, str) and reason != "tool_calls":
            yield Finish(reason=reason)

    def _of_update(self, namespace: Any, data: Any) -> Iterator[AgentPiece]:
        """What nodes have added to the state."""
        if INTERRUPT in data and not namespace:  # after all subgraphs have said so, and the checkpoint is stored
            self.interrupts += data[INTERRUPT]
            return
        for update in data.values():
            for message in _found(update):
                yield from self._tools(message)
            if not namespace and isinstance(update, dict) and update.get(OUTPUT_KEY) is not None:
                yield output(update[OUTPUT_KEY])

    def _tools(self, message: AnyMessage) -> Iterator[AgentPiece]:
        """The calls in a message of the state, or the outcome if it is one."""
        if message.id in self._done:
            return
        if message.id is not None:
            self._done.add(message.id)
        if message.type == "tool" and message.tool_call_id in self.running:
            del self.running[message.tool_call_id]
            yield _result(message)
        for call in message.tool_calls if message.type == "ai" else ():
            if call["id"]:
                use = ToolUse(id=call["id"], name=call["name"], arguments=as_json(call["args"]))
                self.running[use.id] = use
                yield use

    def _custom(self, _: Any, data: Any) -> Iterator[AgentPiece]:
        whole = isinstance(data, AgentPiece) and not isinstance(data, str)
        yield data if whole else Data(name=CUSTOM, data=as_json(data))


def _found(value: Any) -> Iterator[AnyMessage]:
    """The messages in a state or an update, in order."""
    from langchain_core.messages import BaseMessage

    if isinstance(value, BaseMessage):
        yield value  # type: ignore[misc]  # the union of all kinds of them
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _found(each)


def _result(message: ToolMessage) -> ToolResult:
    """The outcome of a tool. LangChain turns what a tool returns into JSON text; some tools return blocks of text."""
    content: Any = message.content
    if isinstance(content, list) and all(isinstance(each, dict) and each.get("type") == "text" for each in content):
        content = message.text
    if message.status == "error":
        return ToolResult(id=message.tool_call_id, error=message.text or "The tool failed.")
    if isinstance(content, str) and content[:1] in ("[", "{"):
        with contextlib.suppress(ValueError):
            content = loads(content.encode(errors="replace"))
    return ToolResult(id=message.tool_call_id, result=as_json(content))


def _usage(used: Any) -> Usage:
    return Usage(
        input=used["input_tokens"],
        output=used["output_tokens"],
        reasoning=used.get("output_token_details", {}).get("reasoning") or 0,
        cached=used.get("input_token_details", {}).get("cache_read") or 0,
    )


# the thread


def _settings(task: Task, config: RunnableConfig | None) -> RunnableConfig:
    thread = {"thread_id": f"{task.chat}/{task.question['id']}"}  # no key has a slash
    return {**(config or {}), "configurable": thread | (config or {}).get("configurable", {})}


async def _earlier(
    graph: Pregel[Any, Any, Any, Any], context: Context, settings: RunnableConfig
) -> StateSnapshot | None:
    """The state of the run that this one continues, or None if it starts from the beginning. Stored values survive
    interruptions.
    """
    if not graph.checkpointer:
        return None
    state = await graph.aget_state(settings, subgraphs=True)
    found = None if state.metadata is None else state
    if BEGUN in context.stored:
        return found
    if found is not None:  # left behind by a run that was stopped or has failed
        await _forget(graph, settings)
    await context.store(BEGUN, True)
    return None


async def _forget(graph: Pregel[Any, Any, Any, Any], settings: RunnableConfig) -> None:
    """Deletes the checkpoints of a run that has ended: they would be a second copy of the conversation."""
    if graph.checkpointer and not isinstance(graph.checkpointer, bool):
        await graph.checkpointer.adelete_thread(settings["configurable"]["thread_id"])


# the conversation


def _messages(task: Task) -> list[AnyMessage]:
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    messages: list[Any] = []
    for turn in task.turns:
        if turn.role == "tool":
            messages.append(ToolMessage(content=turn.text, tool_call_id=turn.answers))
        elif turn.role == "assistant":
            calls = [{"id": each.id, "name": each.name, "args": arguments_of(each.arguments)} for each in turn.calls]
            messages.append(AIMessage(content=turn.text, tool_calls=calls))
        else:
            messages.append(HumanMessage(content=_content(turn)))
    for number, message in enumerate(messages):
        message.id = f"{task.question['id']}-{number}"
    messages[-1].id = task.question["id"]
    return messages


def _content(turn: Turn) -> Any:
    names = "\n".join(f"[file: {each.name}]" for each in turn.documents)  # models of LangChain differ in PDFs
    said = "\n".join(each for each in (turn.text, names) if each)
    if not turn.images:
        return said
    text = [{"type": "text", "text": said}] if said else []
    return [*text, *({"type": "image_url", "image_url": {"url": url}} for url in turn.images)]


def _failure(error: Exception) -> ModelFailed:
    from langchain_core.exceptions import ModelConnectionError, ModelRefusalError, ModelTimeoutError
    from langgraph.errors import GraphRecursionError

    if isinstance(error, GraphRecursionError):
        return ModelFailed("too_many_steps", "The model called tools again and again without answering.")
    if isinstance(error, ModelRefusalError):
        return ModelFailed("refused", "The model declined to answer.")
    if isinstance(error, ModelTimeoutError):
        return ModelFailed(*LATE)
    if isinstance(error, ModelConnectionError):
        return ModelFailed(*CUT_OFF)
    return ModelFailed(*SENTENCES.get(getattr(error, "status_code", 0), OTHERWISE))
