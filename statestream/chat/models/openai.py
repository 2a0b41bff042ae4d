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
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from statestream.chat.models import Finish, ModelFailed, Turn

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

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

    async def answer(self, turns: Sequence[Turn]) -> AsyncIterator[str | Finish]:
        openai = await asyncio.to_thread(__import__, "openai")  # half a second, once: not on the event loop
        finish: str | None = None
        try:
            if self._client is None:
                self._client = openai.AsyncOpenAI(base_url=self._base_url, api_key=self._api_key)
            messages = [_message(turn) for turn in turns]
            async with await self._client.chat.completions.create(
                model=self.name, messages=messages, stream=True
            ) as stream:
                async for chunk in stream:
                    text, reason = _said(chunk)
                    finish = reason or finish
                    if text:
                        yield text
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

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _said(chunk: ChatCompletionChunk) -> tuple[str, str | None]:
    """The text and the finish reason in a chunk. The package does not check what a provider sends."""
    text, reason = "", None
    for choice in chunk.choices or ():
        if isinstance(choice.delta.content, str):
            text += choice.delta.content
        if isinstance(choice.finish_reason, str):
            reason = choice.finish_reason
    return text, reason


def _failed(error: Exception, kind: str, sentence: str) -> ModelFailed:
    log.warning("the model failed: %s", type(error).__name__)
    return ModelFailed(kind, sentence)


def _message(turn: Turn) -> ChatCompletionMessageParam:
    if turn.role == "assistant":
        return {"role": "assistant", "content": turn.text}
    return {"role": "user", "content": turn.text}
