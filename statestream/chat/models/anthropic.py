"""A model behind Anthropic's Messages API, or a compatible one, through the anthropic package.

By default, the package finds the key itself, for example in ANTHROPIC_API_KEY, and the server in ANTHROPIC_BASE_URL.

Requests differ from those of other APIs: the instructions are not a message, outcomes of tools are in a user message,
and every answer has a limit. Thoughts are sent back in their original place in the answer. The provider caches the
conversation so far, which makes the next request cheaper.

Invariants: one model adapts to one provider. Later requests also omit what the provider has rejected.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from statestream.chat.models import Document, ModelFailed, Piece, ToolCall, ToolSpec, Turn
from statestream.chat.models.anthropic_stream import AnthropicStream
from statestream.chat.models.endpoint import Endpoint, digest, require
from statestream.chat.models.failures import SENTENCES, rejects, rejects_documents
from statestream.chat.models.layout import parts_of
from statestream.chat.models.output import output_of, strict_schema
from statestream.chat.models.settings import ModelSettings

MAX_TOKENS: Final = 32_000
"""The limit of an answer if the settings have none. The API requires a limit, and every current model accepts this one.
"""
WITH_TEMPERATURE: Final = "2023-06-01"
"""The last version of the API that supports a temperature. Only older models accept one."""
BUDGETS: Final = {"minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384}
"""The number of tokens in which older models may think, by the effort in the settings."""
MAX_BUDGET: Final = 24_576
NO_EFFORT: Final = "none"
_IMAGE: Final = re.compile(r"data:(image/(?:jpeg|png|gif|webp));base64,(.*)", re.DOTALL)


class AnthropicModel:
    """A model behind Anthropic's API. `name` is the provider's name for the model.

    `provider` distinguishes servers that have models of the same name. It is a digest, because a URL may have a
    password.
    """

    vendor = "anthropic"

    def __init__(self, name: str, *, base_url: str | None = None, api_key: str | None = None) -> None:
        require("anthropic", extra="anthropic")
        self.name = name
        server = base_url or os.environ.get("ANTHROPIC_BASE_URL", "")
        self.provider = digest(f"anthropic {server} {name}")
        self._endpoint = Endpoint(lambda: _open(base_url, api_key))
        self._habits = _Habits()

    def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings) -> AsyncIterator[Piece]:
        return self._endpoint.answer(_Request(self.name, turns, tools, settings, self._habits), AnthropicStream())

    async def close(self) -> None:
        await self._endpoint.close()


def _open(base_url: str | None, api_key: str | None) -> tuple[Any, Callable[..., Any]]:
    from anthropic import AnthropicError, AsyncAnthropic

    try:
        client = AsyncAnthropic(
            base_url=base_url,
            api_key=api_key,
            max_retries=0,  # the chat retries, and says so
            open_telemetry=False,  # each call has a span of ours
        )
    except AnthropicError:  # of the profile in which the package may find the key
        raise ModelFailed(*SENTENCES[401]) from None
    if not (client.api_key or client.auth_token or client.credentials):
        raise ModelFailed(*SENTENCES[401])
    return client, client.messages.with_streaming_response.create


class _Habits:
    """What a model has learned about its provider."""

    def __init__(self) -> None:
        self.caches = self.schemas = True
        self.documents = True
        """Whether the provider takes PDFs. Those that do not get their names."""
        self.adaptive = True
        """Whether the model decides for itself how long to think. Older models require a number of tokens."""


class _Request:
    """The request for one answer."""

    names: Final = {
        "temperature": ("temperature",),
        "max_tokens": ("max_tokens",),
        "effort": ("effort", "thinking.", "thinking:", "adaptive"),
        "instructions": ("system:",),
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
        self._thoughts_wanted = True
        self._output = None if settings.output is None else output_of(settings.output)

    def members(self) -> dict[str, Any]:
        settings = self.settings
        schema = self._format()
        instructions = settings.instructions
        if self._output is not None and schema is None:
            instructions = self._output.in_prompt(instructions)
        system = [instructions or "", *(turn.text for turn in self._turns if turn.role == "system")]
        optional = {
            "system": "\n\n".join(text for text in system if text.strip()),
            "tools": [_tool(tool) for tool in self._tools],
            "extra_headers": dict(settings.headers),
            "cache_control": {"type": "ephemeral"} if self._habits.caches else None,
            **self._effort(),
        }
        if schema is not None:
            optional["output_config"] = {**(optional.get("output_config") or {}), "format": schema}
        if settings.temperature is not None:
            optional["extra_body"] = {"temperature": settings.temperature}
            optional["extra_headers"] = {"anthropic-version": WITH_TEMPERATURE, **settings.headers}
        members = {name: value for name, value in optional.items() if value}
        return members | {
            "model": self._model,
            "messages": self._messages(),
            "max_tokens": settings.max_tokens or MAX_TOKENS,
            "stream": True,
        }

    def _format(self) -> dict[str, Any] | None:
        """The schema of the answer; None if there is none, or it has to be in the prompt."""
        if self._output is None or not self._habits.schemas:
            return None
        schema = strict_schema(self._output.schema, limits=False)
        return None if schema is None else {"type": "json_schema", "schema": schema}

    def _effort(self) -> dict[str, Any]:
        effort = self.settings.effort
        if effort is None:
            return {}
        if effort == NO_EFFORT:
            return {"thinking": {"type": "disabled"}}
        if self._habits.adaptive:
            return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": effort}}
        limit = self.settings.max_tokens or MAX_TOKENS
        return {"thinking": {"type": "enabled", "budget_tokens": min(BUDGETS.get(effort, MAX_BUDGET), limit // 2)}}

    def _messages(self) -> list[dict[str, Any]]:
        """The messages. Consecutive turns of one side form one message. Outcomes of tools are on the user's side."""
        messages: list[dict[str, Any]] = []
        for turn in self._turns:
            if turn.role == "system":
                continue
            role = "assistant" if turn.role == "assistant" else "user"
            content = (
                _answer(turn, self._thoughts_wanted) if role == "assistant" else _said(turn, self._habits.documents)
            )
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += content
            else:
                messages.append({"role": role, "content": content})
        return messages

    def adapts(self, error: Exception, members: dict[str, Any]) -> bool:
        habits = self._habits
        if "cache_control" in members and rejects(error, "cache_control"):
            habits.caches = False
            return True
        config = members.get("output_config", {})
        if "format" in config and rejects(error, "output_config.format", "json_schema", "tructured output"):
            habits.schemas = False
            return True
        if "effort" in config and rejects(error, "adaptive", "effort parameter"):
            habits.adaptive = False
            return True
        if habits.documents and rejects_documents(error, self._turns):
            habits.documents = False
            return True
        if self._thoughts_wanted and _has_thoughts(members["messages"]) and rejects(error, "signature", "modified"):
            self._thoughts_wanted = False  # another account may have signed them: without them, the request can succeed
            return True
        return False


def _has_thoughts(messages: Sequence[dict[str, Any]]) -> bool:
    blocks = (block for message in messages for block in message["content"])
    return any(block["type"] in ("thinking", "redacted_thinking") for block in blocks)


def _said(turn: Turn, documents: bool) -> list[dict[str, Any]]:
    if turn.role == "tool":
        return [{"type": "tool_result", "tool_use_id": turn.answers, "content": turn.text}]
    text = [{"type": "text", "text": turn.text}] if turn.text.strip() else []
    return [*text, *(_image(url) for url in turn.images), *(_document(each, documents) for each in turn.documents)]


def _document(document: Document, whole: bool) -> dict[str, Any]:
    if not whole:
        return {"type": "text", "text": f"[file: {document.name}]"}
    source = {"type": "base64", "media_type": "application/pdf", "data": document.url.partition(",")[2]}
    return {"type": "document", "source": source, "title": document.name}


def _image(url: str) -> dict[str, Any]:
    """An image of a type that the API accepts. For any other image, only its type, because the request would fail."""
    if not url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": url}}
    found = _IMAGE.fullmatch(url)
    if found is None:
        return {"type": "text", "text": f"[file: {url.removeprefix('data:').partition(';')[0]}]"}
    return {"type": "image", "source": {"type": "base64", "media_type": found[1], "data": found[2]}}


def _answer(turn: Turn, thoughts: bool) -> list[dict[str, Any]]:
    """An earlier answer of the model, with its thoughts in their original places."""
    return [_block(part) for part in parts_of(turn, items=thoughts)]


def _block(part: str | ToolCall | dict[str, Any]) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, dict):
        return part
    return {"type": "tool_use", "id": part.id, "name": part.name, "input": json.loads(part.arguments)}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
