"""A model behind an OpenAI-compatible API, through the openai package's chat completions.

The key comes from OPENAI_API_KEY, the server from OPENAI_BASE_URL, unless they are given.

Law: every exception of the package and its transport becomes a ModelFailed with a sentence of ours:
what a provider says may hold keys or prompts, so it is logged by its type only.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Reasoning, Refusal, ToolSpec, Turn, Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import CompletionUsage
    from openai.types.chat import ChatCompletionChunk

log = logging.getLogger("statestream")

_SENTENCES: Final = {
    400: ("bad_request", "The model could not make sense of this conversation."),
    401: ("unauthenticated", "The model's key is missing or wrong."),
    403: ("forbidden", "The model's key does not allow this."),
    404: ("unknown_model", "The model does not exist there."),
    429: ("rate_limited", "The model is asked too often just now. Try again in a while."),
}


class OpenAIModel:
    """A model behind an OpenAI-compatible API. `name` is the provider's name of the model."""

    def __init__(self, name: str, *, base_url: str | None = None, api_key: str | None = None) -> None:
        if importlib.util.find_spec("openai") is None:
            raise ImportError("expected the openai package: pip install 'statestream[chat]'", name="openai")
        self.name = name
        self._base_url, self._api_key = base_url, api_key
        self._client: AsyncOpenAI | None = None

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec]) -> AsyncIterator[Piece]:
        openai = await asyncio.to_thread(__import__, "openai")  # half a second, once: not on the event loop
        finish: str | None = None
        try:
            if self._client is None:
                self._client = openai.AsyncOpenAI(base_url=self._base_url, api_key=self._api_key)
            async with await self._client.chat.completions.create(**self._request(turns, tools)) as stream:
                async for chunk in stream:
                    for piece in _pieces(chunk):
                        yield piece
                    finish = _reason(chunk) or finish
        except openai.APIStatusError as error:
            raise _failed(
                error, *_SENTENCES.get(error.status_code, ("failed", "The model failed. Try again."))
            ) from None
        except openai.APITimeoutError as error:
            raise _failed(error, "timeout", "The model has not answered in time.") from None
        except openai.APIConnectionError as error:
            raise _failed(error, "connection", "The connection to the model was lost.") from None
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            raise _failed(error, "failed", "The model broke off with an error.") from None
        if finish is not None:
            yield Finish(reason=finish)

    def _request(self, turns: Sequence[Turn], tools: Sequence[ToolSpec]) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.name, "messages": [_message(turn) for turn in turns], "stream": True}
        request["stream_options"] = {"include_usage": True}
        if tools:
            request["tools"] = [_tool(tool) for tool in tools]
        return request

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _pieces(chunk: ChatCompletionChunk) -> Iterator[Piece]:
    """What a chunk says. The package does not check what a provider sends: neither shapes nor types."""
    for choice in chunk.choices or ():
        delta = choice.delta
        more = delta.model_extra or {}
        for thought in (more.get("reasoning_content"), more.get("reasoning")):  # of compatible providers, not OpenAI's
            if isinstance(thought, str) and thought:
                yield Reasoning(text=thought)
                break
        if isinstance(delta.content, str) and delta.content:
            yield delta.content
        if isinstance(delta.refusal, str) and delta.refusal:
            yield Refusal(text=delta.refusal)
        for call in delta.tool_calls or ():
            function = call.function
            yield CallPiece(
                index=call.index,
                id=call.id or "",
                name=(function and function.name) or "",
                arguments=(function and function.arguments) or "",
            )
    if chunk.usage is not None:
        yield _usage(chunk.usage)


def _reason(chunk: ChatCompletionChunk) -> str | None:
    for choice in chunk.choices or ():
        if isinstance(choice.finish_reason, str):
            return choice.finish_reason
    return None


def _usage(usage: CompletionUsage) -> Usage:
    said, asked = usage.completion_tokens_details, usage.prompt_tokens_details
    return Usage(
        input=usage.prompt_tokens,
        output=usage.completion_tokens,
        reasoning=(said and said.reasoning_tokens) or 0,
        cached=(asked and asked.cached_tokens) or 0,
    )


def _failed(error: Exception, kind: str, sentence: str) -> ModelFailed:
    log.warning("the model failed: %s", type(error).__name__)
    return ModelFailed(kind, sentence)


def _message(turn: Turn) -> dict[str, Any]:
    if turn.role == "tool":
        return {"role": "tool", "tool_call_id": turn.answers, "content": turn.text}
    if turn.calls:
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in turn.calls
        ]
        return {"role": "assistant", "content": turn.text or None, "tool_calls": calls}
    if turn.images:
        images = [{"type": "image_url", "image_url": {"url": url}} for url in turn.images]
        return {"role": turn.role, "content": [{"type": "text", "text": turn.text}, *images]}
    return {"role": turn.role, "content": turn.text}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}
