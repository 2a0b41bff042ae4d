"""A model behind OpenAI's Responses API, or a compatible one, through the openai package.

Unlike Chat Completions, this API sends summaries of the model's reasoning, and models continue their reasoning between
tool calls. The provider stores nothing. Instead, each request returns the encrypted reasoning.

By default, the key comes from OPENAI_API_KEY and the server from OPENAI_BASE_URL.

Invariants: one model adapts to one provider. Later requests also omit what the provider has rejected.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

from statestream.chat.models import Document, Piece, ToolCall, ToolSpec, Turn
from statestream.chat.models.endpoint import Endpoint, digest, require
from statestream.chat.models.failures import rejects, rejects_documents
from statestream.chat.models.layout import parts_of
from statestream.chat.models.openai import open_client
from statestream.chat.models.output import output_of
from statestream.chat.models.responses_stream import ResponsesStream
from statestream.chat.models.settings import ModelSettings

ENCRYPTED: Final = "reasoning.encrypted_content"


class OpenAIResponsesModel:
    """A model behind OpenAI's Responses API. `name` is the provider's name for the model.

    `provider` distinguishes servers that have models of the same name. It is a digest, because a URL may have a
    password.
    """

    vendor = "openai"

    def __init__(self, name: str, *, base_url: str | None = None, api_key: str | None = None) -> None:
        require("openai", extra="chat")
        self.name = name
        server = base_url or os.environ.get("OPENAI_BASE_URL", "")
        self.provider = digest(f"responses {server} {name}")
        self._endpoint = Endpoint(lambda: _open(base_url, api_key))
        self._habits = _Habits()

    def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings) -> AsyncIterator[Piece]:
        return self._endpoint.answer(_Request(self.name, turns, tools, settings, self._habits), ResponsesStream())

    async def close(self) -> None:
        await self._endpoint.close()


def _open(base_url: str | None, api_key: str | None) -> tuple[Any, Callable[..., Any]]:
    client = open_client(base_url, api_key)
    return client, client.responses.with_streaming_response.create


class _Habits:
    """What a model has learned about its provider. Models that do not reason reject the members for reasoning."""

    def __init__(self) -> None:
        self.encrypted = self.summaries = self.schemas = True
        self.documents = True
        """Whether the provider takes PDFs. Those that do not get their names."""


class _Request:
    """The request for one answer."""

    names: Final = {
        "temperature": ("temperature",),
        "max_tokens": ("max_output_tokens",),
        "effort": ("effort",),
        "instructions": ("instructions",),
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
        self._items_wanted = True
        self._output = None if settings.output is None else output_of(settings.output)

    def members(self) -> dict[str, Any]:
        settings, habits = self.settings, self._habits
        reasoning = {"effort": settings.effort, "summary": "auto" if habits.summaries else None}
        optional = {
            "instructions": self._instructions() or None,
            "text": self._format(),
            "temperature": settings.temperature,
            "max_output_tokens": settings.max_tokens,
            "reasoning": {name: value for name, value in reasoning.items() if value is not None} or None,
            "include": [ENCRYPTED] if habits.encrypted else None,
            "tools": [_tool(tool) for tool in self._tools] or None,
            "extra_headers": dict(settings.headers) or None,
        }
        items = [item for turn in self._turns for item in _items(turn, self._items_wanted, habits.documents)]
        request = {"model": self._model, "input": items, "stream": True, "store": False}
        return request | {name: value for name, value in optional.items() if value is not None}

    def _instructions(self) -> str | None:
        if self._output is None or self._habits.schemas:
            return self.settings.instructions
        return self._output.in_prompt(self.settings.instructions)

    def _format(self) -> dict[str, Any] | None:
        if self._output is None or not self._habits.schemas:
            return None
        return {"format": {"type": "json_schema", **self._output.described()}}

    def adapts(self, error: Exception, members: dict[str, Any]) -> bool:
        habits = self._habits
        if habits.summaries and rejects(error, "summary", "summaries"):
            habits.summaries = False
            return True
        if "text" in members and habits.schemas and rejects(error, "text.format", "json_schema"):
            habits.schemas = False
            return True
        if habits.documents and rejects_documents(error, self._turns):
            habits.documents = False
            return True
        if rejects(error, "encrypted", "Encrypted"):
            sent = any(item.get("type") == "reasoning" for item in members["input"])
            if sent and self._items_wanted:
                self._items_wanted = False  # another account may have encrypted it: without it, the request can succeed
                return True
            if habits.encrypted:
                habits.encrypted = False
                return True
        return False


def _items(turn: Turn, items: bool, documents: bool) -> Iterator[dict[str, Any]]:
    if turn.role == "tool":
        yield {"type": "function_call_output", "call_id": turn.answers, "output": turn.text}
    elif turn.role == "assistant":
        yield from _answer(turn, items)
    elif turn.images or turn.documents:
        text = [{"type": "input_text", "text": turn.text}] if turn.text else []
        images = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in turn.images]
        files = [_file(each, documents) for each in turn.documents]
        yield {"role": turn.role, "content": [*text, *images, *files]}
    else:
        yield {"role": turn.role, "content": turn.text}


def _file(document: Document, whole: bool) -> dict[str, Any]:
    if not whole:
        return {"type": "input_text", "text": f"[file: {document.name}]"}
    return {"type": "input_file", "filename": document.name, "file_data": document.url}


def _answer(turn: Turn, items: bool) -> Iterator[dict[str, Any]]:
    """The items of an earlier answer, with its reasoning in its original place."""
    phase: dict[str, Any] = {}
    for part in parts_of(turn, items=items):
        if isinstance(part, str):
            yield {"role": "assistant", "content": part, **phase}
        elif isinstance(part, ToolCall):
            yield {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments}
        elif "phase" in part:
            phase = part
        else:
            phase = {}
            yield part


def _tool(tool: ToolSpec) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", **described, "strict": False}
