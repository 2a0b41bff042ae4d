"""Anthropic's Messages API.

An answer is a list of blocks. A block begins, grows and ends before the next one begins. A thought ends with its
signature, which is made of it here, so that a thought that comes back changed is recognized.

Invariants: no code of the product is used here. The messages of refusals are those of the provider.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.wires import Step, Write
from tests.support.wires.rules import looseness

MEMBERS = {
    "model", "messages", "max_tokens", "stream", "system", "temperature", "thinking", "output_config", "tools",
    "cache_control", "metadata", "stop_sequences", "tool_choice",
}  # fmt: skip
VERSIONS = ("2023-06-01", "2026-10-21")
REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
THOUGHTS = ("thinking", "redacted_thinking")


def signature_of(thought: str) -> str:
    """Base64 of a length that no signature of a test has by chance."""
    return f"EqRkYW4{hashlib.sha256(thought.encode(errors='surrogatepass')).hexdigest()}="


class Messages:
    path = "/v1/messages"

    def conversation(self, body: Any) -> list[Any]:
        messages: list[Any] = [{"role": "system", "content": body["system"]}] if "system" in body else []
        for message in body["messages"]:
            if message["role"] == "user":
                results = [block for block in message["content"] if block["type"] == "tool_result"]
                messages += [
                    {"role": "tool", "tool_call_id": block["tool_use_id"], "content": block["content"]}
                    for block in results
                ]
                if len(results) < len(message["content"]):
                    said = [block for block in message["content"] if block["type"] != "tool_result"]
                    messages.append({"role": "user", "content": said})
            else:
                messages.append(answer_of(message))
        return messages

    def violation(self, body: Any, headers: Mapping[str, str]) -> str | None:
        if not headers.get("X-Api-Key") and not headers.get("Authorization", "").startswith("Bearer "):
            return "x-api-key header is required"
        version = headers.get("Anthropic-Version")
        if version not in VERSIONS:
            return "anthropic-version: header is required"
        if version != VERSIONS[0] and "temperature" in body:
            return "temperature: Extra inputs are not permitted"
        for member in ("model", "messages", "max_tokens"):
            if member not in body:
                return f"{member}: Field required"
        if "format" in body.get("output_config", {}) and (
            loose := looseness(body["output_config"]["format"]["schema"])
        ):
            return f"output_config.format.schema: {loose}"
        if unknown := body.keys() - MEMBERS:
            return f"{min(unknown)}: Extra inputs are not permitted"
        return settings_violation(body) or messages_violation(body)

    def lost(self, body: Any, sent: Callable[[int], list[Any] | None]) -> str | None:
        answers = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
        for place, content in enumerate(answers):
            known = sent(place)
            calls = any(block["type"] == "tool_use" for block in content)
            if known is not None and calls and without_ids(known) != without_ids(content):
                return (
                    f"messages.{place}.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant "
                    "message cannot be modified. These blocks must remain as they were in the original response."
                )
        return None

    def problem(self, message: str) -> Any:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}, "request_id": "req_1"}

    def speaker(self, write: Write, steps: list[Step]) -> Speaker:
        return Speaker(write, steps)


def without_ids(content: list[Any]) -> list[Any]:
    """The blocks without the ids of calls, which are replaced if an answer before has the same."""
    return [{name: value for name, value in block.items() if name != "id"} for block in content]


def answer_of(message: Any) -> Any:
    blocks = message["content"]
    calls = [
        {"id": block["id"], "function": {"name": block["name"], "arguments": json.dumps(block["input"])}}
        for block in blocks
        if block["type"] == "tool_use"
    ]
    text = "".join(block["text"] for block in blocks if block["type"] == "text")
    return {"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}


def settings_violation(body: Any) -> str | None:
    thinking = body.get("thinking", {"type": "disabled"})
    if thinking["type"] == "enabled":
        if thinking["budget_tokens"] < 1_024:
            return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        if thinking["budget_tokens"] >= body["max_tokens"]:
            return "`max_tokens` must be greater than `thinking.budget_tokens`."
    if thinking["type"] != "disabled" and body.get("temperature", 1) != 1:
        return "`temperature` may only be set to 1 when thinking is enabled."
    if body.get("temperature", 0) > 1:
        return "temperature: range: 0..1"
    return None


def messages_violation(body: Any) -> str | None:
    messages = body["messages"]
    waiting: list[str] = []
    for place, message in enumerate(messages):
        content = message["content"]
        if type(content) is not list or not content:
            return f"messages.{place}: all messages must have non-empty content"
        for block in content:
            if (wrong := block_violation(block)) is not None:
                return f"messages.{place}.content.0: {wrong}"
        results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        first = [block["type"] == "tool_result" for block in content[: len(results)]]
        if sorted(results) != sorted(waiting) or not all(first):
            return f"messages.{place}: `tool_use` ids were found without `tool_result` blocks immediately after"
        waiting = [block["id"] for block in content if block["type"] == "tool_use"]
        if message["role"] == "assistant" and content[-1]["type"] in THOUGHTS:
            return f"messages.{place}: The final block in an assistant message cannot be `thinking`."
    if messages[-1]["role"] != "user":
        return "This model does not support assistant message prefill."
    return loop_violation(body)


def loop_violation(body: Any) -> str | None:
    """While tools are called, the answer that has called them begins with the thought that led to them."""
    last = body["messages"][-1]["content"]
    if body.get("thinking", {}).get("type") == "enabled" and last[0]["type"] == "tool_result":
        before = body["messages"][-2]["content"][0]["type"]
        if before not in THOUGHTS:
            return (
                f"messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{before}`. When "
                "`thinking` is enabled, a final `assistant` message must start with a thinking block."
            )
    return None


def block_violation(block: Any) -> str | None:
    kind = block["type"]
    if kind == "text" and not block["text"].strip():
        return "text content blocks must contain non-whitespace text"
    if kind == "thinking" and block["signature"] != signature_of(block["thinking"]):
        return "Invalid `signature` in `thinking` block"
    if kind == "tool_use" and not re.fullmatch("[a-zA-Z0-9_-]+", block["id"]):
        return "tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    if kind == "tool_use" and type(block["input"]) is not dict:
        return "tool_use.input: Input should be a valid dictionary"
    if kind == "image" and block["source"]["type"] == "base64":
        types = ("image/jpeg", "image/png", "image/gif", "image/webp")
        return None if block["source"]["media_type"] in types else "Input should be 'image/jpeg', 'image/png', …"
    return None


class Speaker:
    """Opens and closes the blocks. A call is a block of its own, which is open until another block begins."""

    def __init__(self, write: Write, steps: list[Step]) -> None:
        self._write, self._steps = write, steps
        self.sent: list[Any] = []
        self._open: Any = None
        self._arguments = ""
        self._begun, self._declined = False, ""

    async def write(self, kind: str, **members: Any) -> None:
        if not self._begun:
            self._begun = True
            await self.write("message_start", message=self._message())
            await self._write('event: ping\ndata: {"type": "ping"}\n\n')
        await self._write(f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n")

    def _message(self) -> Any:
        end = next((step["end"] for step in self._steps if "end" in step), None)
        usage = {"input_tokens": 0, "output_tokens": 1}
        if end is not None:
            written = 2
            usage |= {"input_tokens": end["input"] - end["cached"] - written}
            usage |= {"cache_read_input_tokens": end["cached"], "cache_creation_input_tokens": written}
        about = {"id": "msg_1", "type": "message", "role": "assistant", "model": "test-model", "content": []}
        return {**about, "stop_reason": None, "stop_sequence": None, "usage": usage}

    async def _begin(self, block: Any, key: Any = None) -> None:
        """Opens a block, unless it is open already. A signature closes what a model has thought."""
        if self._open is not None and self._open[0] == key:
            return
        await self._close()
        self._open, self._arguments = (key, block), ""
        self.sent.append(block)
        await self.write("content_block_start", index=len(self.sent) - 1, content_block=dict(block))

    async def _close(self) -> None:
        if self._open is None:
            return
        block, index, self._open = self._open[1], len(self.sent) - 1, None
        if block["type"] == "thinking":
            block["signature"] = signature_of(block["thinking"])
            delta = {"type": "signature_delta", "signature": block["signature"]}
            await self.write("content_block_delta", index=index, delta=delta)
        if block["type"] == "tool_use":
            try:
                block["input"] = json.loads(self._arguments or "{}")
            except ValueError:
                block["input"] = {}
        await self.write("content_block_stop", index=index)

    async def _grow(self, kind: str, name: str, text: str) -> None:
        if text:
            delta = {"type": kind, name: text}
            await self.write("content_block_delta", index=len(self.sent) - 1, delta=delta)

    async def do_say(self, text: str) -> None:
        await self._begin({"type": "text", "text": ""}, "text")
        self.sent[-1]["text"] += text
        await self._grow("text_delta", "text", text)

    async def do_think(self, text: str) -> None:
        await self._begin({"type": "thinking", "thinking": "", "signature": ""}, "thinking")
        self.sent[-1]["thinking"] += text
        await self._grow("thinking_delta", "thinking", text)

    async def do_thought(self, _: bool) -> None:
        """The thought is complete: what follows is another one."""
        await self._close()

    async def do_redact(self, data: str) -> None:
        await self._begin({"type": "redacted_thinking", "data": data})
        await self._close()

    async def do_call(self, call: Any) -> None:
        block = {"type": "tool_use", "id": call.get("id"), "name": call.get("name"), "input": {}}
        await self._begin(block, ("call", call["index"]))
        self._arguments += call.get("arguments", "")
        await self._grow("input_json_delta", "partial_json", call.get("arguments", ""))

    async def do_decline(self, text: str) -> None:
        """A piece of the explanation of a refusal, which comes with the end."""
        self._declined += text

    async def do_last(self, reason: str, **usage: int) -> None:
        await self._close()
        declined = self._declined
        details = {"type": "refusal", "category": None, "explanation": declined} if declined else None
        stop = "refusal" if declined else REASONS.get(reason, reason)
        delta = {"stop_reason": stop, "stop_sequence": None, "stop_details": details}
        await self.write("message_delta", delta=delta, usage={"output_tokens": 0, **usage})

    async def do_finish(self, reason: str) -> None:
        await self.do_last(reason)
        await self.write("message_stop")

    async def do_end(self, end: Any) -> None:
        await self.do_last(
            end["reason"],
            output_tokens=end["output"],
            output_tokens_details={"thinking_tokens": end["reasoning"]},
        )
        await self.write("message_stop")

    async def do_fail(self, kind: str) -> None:
        types = {"rate_limited": "rate_limit_error", "failed": "overloaded_error"}
        await self.write("error", error={"type": types[kind], "message": "sk-canary-said-by-the-provider"})
