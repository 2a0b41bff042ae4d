"""A model behind an OpenAI-compatible API, through the openai package's chat completions.

Unless they are given, the key is read from OPENAI_API_KEY and the server from OPENAI_BASE_URL.

The package does the connection, authentication, retries and HTTP errors. The bytes of the stream are not parsed by it
but by `chunks`: its typed chunks cost several times as much and check nothing. This does not depend on the package's
transport: any exception while bytes are read means that the connection is lost or that time has run out.

Invariants: every exception of the package and its transport becomes a ModelFailed with a sentence of ours. The
provider's own messages may contain keys or prompts, so only the type of an exception is logged. A caller that stops
early closes the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from statestream.chat.models import ModelFailed, Piece, ToolCall, ToolSpec, Turn
from statestream.chat.models.chunks import BROKEN_OFF, CUT_OFF, LATE, OTHERWISE, SENTENCES, Chunks
from statestream.chat.models.opaque import THOUGHTS, members_of, thought_of

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger("statestream")

DRAIN_SECONDS: Final = 0.1
USAGE_SECONDS: Final = 2.0
MAX_RETRY_AFTER: Final = 3_600
THOUGHT: Final = THOUGHTS[0]
"""The member that some providers require even in the answers of other models, while others reject it."""
MAX_PAUSE: Final = 2
"""The seconds that a provider may ask to wait before a retry. A longer wait ends the answer, so that people know."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_PAUSE: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


class OpenAIModel:
    """A model behind an OpenAI-compatible API. `name` is the provider's name of the model.

    `provider` distinguishes servers that have models of the same name. It is a digest, because a URL may have a
    password.
    """

    vendor = "openai"

    def __init__(self, name: str, *, base_url: str | None = None, api_key: str | None = None) -> None:
        if importlib.util.find_spec("openai") is None:
            raise ImportError(
                "openai is not installed; it comes with the extra chat: pip install '.[chat]' in the checkout",
                name="openai",
            )
        self.name = name
        server = base_url or os.environ.get("OPENAI_BASE_URL", "")
        self.provider = hashlib.sha256(f"{server} {name}".encode()).hexdigest()[:16]
        self._base_url, self._api_key = base_url, api_key
        self._client: AsyncOpenAI | None = None
        self._create: Callable[..., Any] | None = None
        self._opening = asyncio.Lock()
        self._usage_wanted = True
        self._thoughts_wanted: bool | None = None
        """Whether THOUGHT is to be a member of every answer, if the provider has complained."""

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec]) -> AsyncIterator[Piece]:
        chunks = Chunks(thoughts=bool(tools))
        try:
            async with contextlib.AsyncExitStack() as exits:
                response = await self._response(exits, turns, tools)
                body = await exits.enter_async_context(contextlib.aclosing(response.http_response.aiter_bytes()))
                until = None
                while (data := await _next(body, chunks, until)) is not None:
                    for piece in chunks.feed(data):
                        yield piece
                    until = (until or asyncio.get_running_loop().time() + USAGE_SECONDS) if chunks.finished else None
                if chunks.done:
                    await _drain(body)
        except ModelFailed as failure:
            log.warning("the model failed: %s", failure.kind)
            raise
        except Exception as error:  # of the package or its transport
            log.warning("the model failed: %s", type(error).__name__)
            raise failure_of(error) from None
        for last in chunks.end():
            yield last

    async def _response(
        self, exits: contextlib.AsyncExitStack, turns: Sequence[Turn], tools: Sequence[ToolSpec]
    ) -> Any:
        """The open response. If the provider rejects something that is optional, asks again without it, once for each.

        Later requests do the same.
        """
        create = await self._requester()
        while True:
            request = self._request(turns, tools)
            try:
                return await exits.enter_async_context(create(**request))
            except Exception as error:
                if not self._adapts(error, request):
                    raise

    def _adapts(self, error: Exception, request: dict[str, Any]) -> bool:
        """Whether the next request omits what the provider has rejected, or adds what it has required."""
        if "stream_options" in request and self._usage_wanted and _rejects(error, "stream_options"):
            self._usage_wanted = False
            return True
        if self._thoughts_wanted is None and _rejects(error, THOUGHT):
            self._thoughts_wanted = all(THOUGHT not in message for message in request["messages"])
            return True
        return False

    async def _requester(self) -> Callable[..., Any]:
        """The function that asks the provider. Importing the package takes most of a second: not on the event loop."""
        async with self._opening:
            if self._create is not None:
                return self._create
            self._client, create = await asyncio.to_thread(self._open)
            self._create = create
            return create

    def _open(self) -> tuple[AsyncOpenAI, Callable[..., Any]]:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAIError

        try:
            client = AsyncOpenAI(
                base_url=self._base_url,
                api_key=self._api_key,
                http_client=DefaultAsyncHttpxClient(event_hooks={"response": [_limit_pause]}),
            )
        except OpenAIError:
            raise ModelFailed(*SENTENCES[401]) from None
        return client, client.chat.completions.with_streaming_response.create

    def _request(self, turns: Sequence[Turn], tools: Sequence[ToolSpec]) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.name, "messages": self._messages(turns), "stream": True}
        if self._usage_wanted:
            request["stream_options"] = {"include_usage": True}
        if tools:
            request["tools"] = [_tool(tool) for tool in tools]
        return request

    def _messages(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        thought = thought_of(turns)
        if self._thoughts_wanted is not None:
            thought = THOUGHT if self._thoughts_wanted else None
        return [_answer(turn, thought) if turn.role == "assistant" else _message(turn) for turn in turns]

    async def close(self) -> None:
        client, self._client, self._create = self._client, None, None
        if client is not None:
            await client.close()


async def _next(body: AsyncIterator[bytes], chunks: Chunks, until: float | None) -> bytes | None:
    """The next bytes of the stream; None at its end.

    Once the model has said why it stopped, only its usage may be missing. That is waited for until `until`, and its
    loss is not an error.
    """
    if chunks.done:
        return None
    try:
        async with asyncio.timeout_at(until):
            return await anext(body, None)
    except Exception:
        if chunks.finished:
            return None
        raise


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Reads the rest of the body, which is nearly complete: only then the connection can be used again."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in body:
                pass


async def _limit_pause(response: Any) -> None:
    """Prevents long retries: the package would wait as long as the provider asks, up to two minutes, without a word."""
    for name, second in (("Retry-After", 1), ("Retry-After-Ms", 1_000)):
        pause = response.headers.get(name)
        if pause is not None and not (_PAUSE.fullmatch(pause) and float(pause) <= MAX_PAUSE * second):
            response.headers["x-should-retry"] = "false"


def _rejects(error: Exception, member: str) -> bool:
    """Whether the provider rejects that member of the request."""
    from openai import APIStatusError

    return isinstance(error, APIStatusError) and error.status_code in (400, 422) and member in str(error.body)


def failure_of(error: Exception) -> ModelFailed:
    """What an exception of the package or its transport means, in a sentence for people."""
    import openai

    if isinstance(error, openai.APIStatusError):
        kind, sentence = SENTENCES.get(error.status_code, OTHERWISE)
        when = _when(error.response.headers.get("Retry-After")) if error.status_code == 429 else None
        return ModelFailed(kind, sentence.replace("in a while", when) if when else sentence)
    if isinstance(error, openai.APITimeoutError) or "Timeout" in type(error).__name__:
        return ModelFailed(*LATE)
    if isinstance(error, openai.OpenAIError) and not isinstance(error, openai.APIConnectionError):
        return ModelFailed(*BROKEN_OFF)
    return ModelFailed(*CUT_OFF)


def _when(header: str | None) -> str | None:
    """`Retry-After` in words, if it is a number of seconds that a person might wait."""
    if header is None or not _SECONDS.fullmatch(header) or not 0 < int(header) <= MAX_RETRY_AFTER:
        return None
    seconds = int(header)
    number, unit = (seconds, "second") if seconds < 120 else (-(-seconds // 60), "minute")
    return f"in {number} {unit}{'' if number == 1 else 's'}"


def _message(turn: Turn) -> dict[str, Any]:
    if turn.role == "tool":
        return {"role": "tool", "tool_call_id": turn.answers, "content": turn.text}
    if turn.images:
        text = [{"type": "text", "text": turn.text}] if turn.text else []
        images = [{"type": "image_url", "image_url": {"url": url}} for url in turn.images]
        return {"role": turn.role, "content": [*text, *images]}
    return {"role": turn.role, "content": turn.text}


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
