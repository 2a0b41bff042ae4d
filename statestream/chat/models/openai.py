"""A model behind an OpenAI-compatible API, through the openai package's chat completions.

Unless they are given, the key is read from OPENAI_API_KEY and the server from OPENAI_BASE_URL.

Invariants: one model adapts to one provider. Later requests also omit what the provider has rejected.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from statestream.chat.models import Document, ModelFailed, Piece, ToolCall, ToolSpec, Turn
from statestream.chat.models.chunks import Chunks
from statestream.chat.models.endpoint import Endpoint, digest, require
from statestream.chat.models.failures import SENTENCES, rejects, rejects_documents
from statestream.chat.models.opaque import THOUGHTS, members_of, thought_of
from statestream.chat.models.output import output_of
from statestream.chat.models.settings import ModelSettings

THOUGHT: Final = THOUGHTS[0]
"""The member that some providers require even in the answers of other models, while others reject it."""


class OpenAIModel:
    """A model behind an OpenAI-compatible API. `name` is the provider's name of the model.

    `provider` distinguishes servers that have models of the same name. It is a digest, because a URL may have a
    password.
    """

    vendor = "openai"

    def __init__(self, name: str, *, base_url: str | None = None, api_key: str | None = None) -> None:
        require("openai", extra="chat")
        self.name = name
        server = base_url or os.environ.get("OPENAI_BASE_URL", "")
        self.provider = digest(f"{server} {name}")
        self._endpoint = Endpoint(lambda: _open(base_url, api_key))
        self._habits = _Habits()

    def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings) -> AsyncIterator[Piece]:
        request = _Request(self.name, turns, tools, settings, self._habits)
        return self._endpoint.answer(request, Chunks(thoughts=bool(tools)))

    async def close(self) -> None:
        await self._endpoint.close()


def open_client(base_url: str | None, api_key: str | None) -> Any:
    """The client of the openai package. Raises ModelFailed if there is no key."""
    from openai import AsyncOpenAI, OpenAIError

    try:
        return AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0)  # the chat retries, and says so
    except OpenAIError:
        raise ModelFailed(*SENTENCES[401]) from None


def _open(base_url: str | None, api_key: str | None) -> tuple[Any, Callable[..., Any]]:
    client = open_client(base_url, api_key)
    return client, client.chat.completions.with_streaming_response.create


class _Habits:
    """What a model has learned about its provider."""

    def __init__(self) -> None:
        self.usage_wanted = True
        self.limit = "max_tokens"
        """The member for the limit of an answer. Many providers ignore the newer name, but none ignores the older one.
        """
        self.schemas = True
        self.documents = True
        """Whether the provider takes PDFs. Those that do not get their names."""
        self.thoughts_wanted: bool | None = None
        """If the provider has complained: whether every answer must have the member THOUGHT."""


class _Request:
    """The request for one answer."""

    names: Final = {
        "temperature": ("temperature",),
        "max_tokens": ("max_tokens", "max_completion_tokens"),
        "effort": ("reasoning_effort",),
        "instructions": ("system role", "messages[0].role"),
    }

    def __init__(
        self,
        model: str,
        turns: Sequence[Turn],
        tools: Sequence[ToolSpec],
        settings: ModelSettings,
        habits: _Habits,
    ) -> None:
        self.settings = settings
        self._model, self._turns, self._tools, self._habits = model, turns, tools, habits
        self._output = None if settings.output is None else output_of(settings.output)

    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = {"model": self._model, "messages": self._messages(), "stream": True}
        if self._habits.usage_wanted:
            members["stream_options"] = {"include_usage": True}
        if self._tools:
            members["tools"] = [_tool(tool) for tool in self._tools]
        return members | self._settings()

    def _settings(self) -> dict[str, Any]:
        settings = self.settings
        chosen = {
            "temperature": settings.temperature,
            self._habits.limit: settings.max_tokens,
            "reasoning_effort": settings.effort,
            "extra_headers": dict(settings.headers) or None,
            "response_format": self._format(),
        }
        return {name: value for name, value in chosen.items() if value is not None}

    def _format(self) -> dict[str, Any] | None:
        if self._output is None or not self._habits.schemas:
            return None
        return {"type": "json_schema", "json_schema": self._output.described()}

    def _messages(self) -> list[dict[str, Any]]:
        thought = thought_of(self._turns)
        if self._habits.thoughts_wanted is not None:
            thought = THOUGHT if self._habits.thoughts_wanted else None
        instructions = self.settings.instructions
        if self._output is not None and not self._habits.schemas:
            instructions = self._output.in_prompt(instructions)
        system = [{"role": "system", "content": instructions}] if instructions else []
        turns = self._turns
        documents = self._habits.documents
        messages = (_answer(turn, thought) if turn.role == "assistant" else _message(turn, documents) for turn in turns)
        return [*system, *messages]

    def adapts(self, error: Exception, members: dict[str, Any]) -> bool:
        habits = self._habits
        if "stream_options" in members and habits.usage_wanted and rejects(error, "stream_options"):
            habits.usage_wanted = False
            return True
        if "response_format" in members and habits.schemas and rejects(error, "response_format", "json_schema"):
            habits.schemas = False
            return True
        if "max_tokens" in members and rejects(error, "max_completion_tokens"):
            habits.limit = "max_completion_tokens"
            return True
        if habits.documents and rejects_documents(error, self._turns):
            habits.documents = False
            return True
        if habits.thoughts_wanted is None and rejects(error, THOUGHT):
            habits.thoughts_wanted = all(THOUGHT not in message for message in members["messages"])
            return True
        return False


def _message(turn: Turn, documents: bool) -> dict[str, Any]:
    """A turn of a user, or the outcome of a call. `documents`: whether PDFs are sent, and not only their names."""
    if turn.role == "tool":
        return {"role": "tool", "tool_call_id": turn.answers, "content": turn.text}
    if turn.images or turn.documents:
        text = [{"type": "text", "text": turn.text}] if turn.text else []
        images = [{"type": "image_url", "image_url": {"url": url}} for url in turn.images]
        return {"role": turn.role, "content": [*text, *images, *(_file(each, documents) for each in turn.documents)]}
    return {"role": turn.role, "content": turn.text}


def _file(document: Document, whole: bool) -> dict[str, Any]:
    if not whole:
        return {"type": "text", "text": f"[file: {document.name}]"}
    return {"type": "file", "file": {"filename": document.name, "file_data": document.url}}


def _answer(turn: Turn, thought: str | None) -> dict[str, Any]:
    """An earlier answer of the model, with what the provider wants back. `thought` is its name for thoughts."""
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.calls:
        message["tool_calls"] = [_call(call) for call in turn.calls]
    kept = members_of(turn.opaque)
    thoughts = {} if thought is None else {thought: turn.reasoning if kept.get("thought") == thought else ""}
    return {**kept.get("members", {}), **thoughts, **message}


def _call(call: ToolCall) -> dict[str, Any]:
    kept = members_of(call.opaque)
    function = {**kept.pop("function", {}), "name": call.name, "arguments": call.arguments}
    return {**kept, "id": call.id, "type": "function", "function": function}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}
