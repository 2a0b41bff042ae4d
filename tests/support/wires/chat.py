"""OpenAI's chat completions, and what compatible providers add to them.

Invariants: no code of the product is used here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.support.wires import Step, Write
from tests.support.wires.rules import looseness

CHUNK = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "test-model"}


class ChatCompletions:
    path = "/v1/chat/completions"

    def conversation(self, body: Any) -> list[Any]:
        messages: list[Any] = body["messages"]
        return messages

    def violation(self, body: Any, headers: Mapping[str, str]) -> str | None:
        if not headers.get("Authorization", "").startswith("Bearer "):
            return "a key is required"
        described = body.get("response_format", {}).get("json_schema", {})
        return looseness(described["schema"]) if described.get("strict") else None

    def lost(self, body: Any, sent: Callable[[int], list[Any] | None]) -> str | None:
        answers = [message for message in body["messages"] if message["role"] == "assistant"]
        for place, message in enumerate(answers):
            steps = sent(place)
            if steps is not None and message.get("tool_calls"):
                lost = next(lost_of(steps, message), None)
                if lost is not None:
                    return f"{lost} must be passed back as it was sent"
        return None

    def problem(self, message: str) -> Any:
        return {"error": {"message": message}}

    def speaker(self, write: Write, steps: list[Step]) -> Speaker:
        return Speaker(write, steps)


def lost_of(steps: list[Step], message: Any) -> Iterator[str]:
    """The data that an answer with tool calls has lost."""
    thought = "".join(step.get("think", "") for step in steps)
    if thought and message.get("reasoning_content") != thought:
        yield "reasoning_content"
    deltas = [step["delta"] for step in steps if "delta" in step]
    signed = [call for delta in deltas for call in delta.get("tool_calls", ()) if "extra_content" in call]
    for call in signed:
        same = [back for back in message["tool_calls"] if back["id"] == call["id"]]
        if not same or same[0].get("extra_content") != call["extra_content"]:
            yield "extra_content"
    blocks = [block for delta in deltas for block in delta.get("thinking_blocks", ())]
    if blocks:
        whole = {"type": "thinking", "thinking": "".join(block["thinking"] for block in blocks)}
        if message.get("thinking_blocks") != [{**whole, "signature": blocks[-1]["signature"]}]:
            yield "thinking_blocks"


class Speaker:
    """`sent` are the steps of the script."""

    def __init__(self, write: Write, steps: list[Step]) -> None:
        self.write = write
        self.sent: list[Any] = steps

    async def do_chunk(self, body: Any) -> None:
        await self.write(f"data: {json.dumps(body)}\n\n")

    async def do_say(self, text: str) -> None:
        await self.do_delta({"content": text})

    async def do_think(self, text: str) -> None:
        await self.do_delta({"reasoning_content": text})

    async def do_call(self, call: Any) -> None:
        function = {name: call[name] for name in ("name", "arguments") if name in call}
        ids = {"id": call["id"], "type": "function"} if "id" in call else {}
        await self.do_delta({"tool_calls": [{"index": call["index"], **ids, "function": function}]})

    async def do_decline(self, text: str) -> None:
        await self.do_delta({"refusal": text})

    async def do_delta(self, delta: Any) -> None:
        await self.do_chunk({**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    async def do_usage(self, usage: Any) -> None:
        await self.do_chunk({**CHUNK, "choices": [], "usage": usage})

    async def do_last(self, reason: str) -> None:
        await self.do_chunk({**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})

    async def do_finish(self, reason: str) -> None:
        await self.do_last(reason)
        await self.write("data: [DONE]\n\n")

    async def do_end(self, end: Any) -> None:
        await self.do_last(end["reason"])
        details = {"prompt_tokens_details": {"cached_tokens": end["cached"]}}
        details |= {"completion_tokens_details": {"reasoning_tokens": end["reasoning"]}}
        await self.do_usage({"prompt_tokens": end["input"], "completion_tokens": end["output"], **details})
        await self.write("data: [DONE]\n\n")

    async def do_fail(self, kind: str) -> None:
        codes = {"rate_limited": 429, "failed": 500}
        await self.do_chunk({"error": {"message": "sk-canary-said-by-the-provider", "code": codes[kind]}})
