"""OpenAI's Responses API, without storage: reasoning comes back encrypted.

Invariants: no code of the product is used here. The messages of refusals are those of the provider.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.wires import Step, Write
from tests.support.wires.rules import looseness

MEMBERS = {
    "model", "input", "instructions", "stream", "store", "include", "reasoning", "tools", "temperature",
    "max_output_tokens", "tool_choice", "parallel_tool_calls", "metadata", "text",
}  # fmt: skip
REASONING = {"type", "id", "summary", "content", "encrypted_content"}


def encrypted(thought: str) -> str:
    return f"gAAAAA{hashlib.sha256(thought.encode(errors='surrogatepass')).hexdigest()}"


class Responses:
    path = "/v1/responses"

    def conversation(self, body: Any) -> list[Any]:
        system = body.get("instructions")
        messages: list[Any] = [{"role": "system", "content": system}] if system else []
        for item in body["input"]:
            kind = item.get("type", "message")
            if kind == "function_call_output":
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
            elif kind == "message" and item["role"] != "assistant":
                messages.append({"role": item["role"], "content": content_of(item["content"])})
            elif kind in ("message", "function_call"):
                if messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                self._extend(messages[-1], item)
        return messages

    def _extend(self, answer: Any, item: Any) -> None:
        if item.get("type") == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            answer.setdefault("tool_calls", []).append({"id": item["call_id"], "function": function})
        else:
            answer["content"] = (answer["content"] or "") + item["content"]

    def violation(self, body: Any, headers: Mapping[str, str]) -> str | None:
        if not headers.get("Authorization", "").startswith("Bearer "):
            return "Missing bearer authentication in header"
        if unknown := body.keys() - MEMBERS:
            return f"Unknown parameter: '{min(unknown)}'."
        if body.get("store", True):
            return "nothing may be stored"
        described = body.get("text", {}).get("format", {})
        if described.get("strict") and (loose := looseness(described["schema"])):
            return f"Invalid schema: {loose}"
        items = body["input"]
        for place, item in enumerate(items):
            if item.get("type") != "reasoning":
                continue
            if unknown := item.keys() - REASONING:
                return f"Unknown parameter: 'input[{place}].{min(unknown)}'."
            if "encrypted_content" not in item:
                return f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false."
            thought = "\n\n".join(part["text"] for part in item["summary"])
            if item["encrypted_content"] != encrypted(thought):
                return "The encrypted content could not be verified."
            following = items[place + 1].get("type", "message") if place + 1 < len(items) else None
            if following not in ("reasoning", "function_call", "message") or items[place + 1].get("role") == "user":
                return f"Item '{item['id']}' of type 'reasoning' was provided without its required following item."
        return None

    def lost(self, body: Any, sent: Callable[[int], list[Any] | None]) -> str | None:
        for place, items in enumerate(answers_of(body["input"])):
            known = sent(place)
            calls = any(item.get("type") == "function_call" for item in items)
            if known is not None and calls and known != [as_sent(item) for item in items]:
                return "The items of an answer must come back as they were, and in their order."
        return None

    def problem(self, message: str) -> Any:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}

    def speaker(self, write: Write, steps: list[Step]) -> Speaker:
        return Speaker(write, steps)


def content_of(content: Any) -> Any:
    if isinstance(content, str):
        return content
    types = {"input_text": "text", "input_image": "image_url"}
    return [{**part, "type": types[part["type"]]} for part in content]


def answers_of(items: list[Any]) -> list[list[Any]]:
    """The items of each answer."""
    answers: list[list[Any]] = []
    inside = False
    for item in items:
        ours = item.get("type") in ("reasoning", "function_call") or item.get("role") == "assistant"
        if ours and not inside:
            answers.append([])
        if ours:
            answers[-1].append(item)
        inside = ours
    return answers


def as_sent(item: Any) -> Any:
    """An item without what may differ."""
    if item.get("type") == "reasoning":
        return {name: item[name] for name in ("type", "id", "summary", "encrypted_content")}
    if item.get("type") == "function_call":
        return {"type": "function_call", "name": item["name"], "arguments": item["arguments"]}
    return {"text": item["content"], "phase": item.get("phase")}


class Speaker:
    """Adds items, and says when each of them is done, before the next one is added."""

    def __init__(self, write: Write, steps: list[Step]) -> None:
        self._write, self._steps = write, steps
        self.sent: list[Any] = []
        self._items: list[Any] = []
        self._open: Any = None
        self._number = 0
        self._declined = False
        self._phase: str | None = None

    async def write(self, kind: str, **members: Any) -> None:
        if not self._number and kind != "response.created":
            await self.write("response.created", response={"id": "resp_1", "status": "in_progress", "output": []})
        event = {"type": kind, "sequence_number": self._number, **members}
        self._number += 1
        await self._write(f"event: {kind}\ndata: {json.dumps(event)}\n\n")

    @property
    def _where(self) -> dict[str, Any]:
        return {"output_index": len(self._items) - 1, "item_id": self._items[-1]["id"]}

    async def _begin(self, item: Any, key: Any) -> None:
        if self._open == key:
            return
        await self._close()
        self._open = key
        self._items.append({**item, "id": f"{item['type'][:2]}_{len(self._items)}", "status": "in_progress"})
        added = dict(self._items[-1])
        await self.write("response.output_item.added", output_index=len(self._items) - 1, item=added)
        if item["type"] == "message":
            part = {"type": "output_text", "text": "", "annotations": []}
            await self.write("response.content_part.added", **self._where, content_index=0, part=part)

    async def _close(self) -> None:
        if self._open is None:
            return
        self._open, item = None, self._items[-1]
        where = self._where
        if item["type"] == "reasoning":
            await self._close_summary(item)
            item["encrypted_content"] = encrypted("\n\n".join(part["text"] for part in item["summary"]))
            del item["status"]
            self.sent.append(as_sent(item))
        elif item["type"] == "function_call":
            item["status"], item["arguments"] = "completed", item["arguments"] or "{}"
            await self.write("response.function_call_arguments.done", **where, arguments=item["arguments"])
            self.sent.append(as_sent(item))
        else:
            item["status"] = "completed"
            text = item["content"][0]["text"]
            await self.write("response.output_text.done", **where, content_index=0, text=text)
            self.sent.append({"text": text, "phase": item.get("phase")})
        await self.write("response.output_item.done", output_index=where["output_index"], item=dict(item))

    async def _close_summary(self, item: Any) -> None:
        if item["summary"]:
            at, part = len(item["summary"]) - 1, item["summary"][-1]
            more = {**self._where, "summary_index": at}
            await self.write("response.reasoning_summary_text.done", **more, text=part["text"])
            await self.write("response.reasoning_summary_part.done", **more, part=part)

    async def do_phase(self, phase: str) -> None:
        """The phase of the message that follows."""
        self._phase = phase

    async def do_say(self, text: str) -> None:
        if self._open != "message":
            phase = {"phase": self._phase} if self._phase else {}
            self._phase = None
            content = [{"type": "output_text", "text": "", "annotations": []}]
            await self._begin({"type": "message", "role": "assistant", "content": content, **phase}, "message")
        self._items[-1]["content"][0]["text"] += text
        await self.write("response.output_text.delta", **self._where, content_index=0, delta=text, logprobs=[])

    async def do_think(self, text: str) -> None:
        await self._begin({"type": "reasoning", "summary": []}, "reasoning")
        summary = self._items[-1]["summary"]
        if not summary:
            await self.do_paragraph(True)
        summary[-1]["text"] += text
        more = {**self._where, "summary_index": len(summary) - 1}
        await self.write("response.reasoning_summary_text.delta", **more, delta=text)

    async def do_paragraph(self, _: bool) -> None:
        """Another part of the summary."""
        await self._close_summary(self._items[-1])
        summary = self._items[-1]["summary"]
        summary.append({"type": "summary_text", "text": ""})
        more = {**self._where, "summary_index": len(summary) - 1}
        await self.write("response.reasoning_summary_part.added", **more, part=dict(summary[-1]))

    async def do_thought(self, _: bool) -> None:
        """The thought is complete: what follows is another one."""
        await self._close()

    async def do_call(self, call: Any) -> None:
        item = {"type": "function_call", "call_id": call.get("id"), "name": call.get("name"), "arguments": ""}
        await self._begin(item, ("call", call["index"]))
        if arguments := call.get("arguments", ""):
            self._items[-1]["arguments"] += arguments
            await self.write("response.function_call_arguments.delta", **self._where, delta=arguments)

    async def do_decline(self, text: str) -> None:
        if not self._declined:
            self._declined = True
            await self._begin({"type": "message", "role": "assistant", "content": [{"text": ""}]}, "refusal")
        await self.write("response.refusal.delta", **self._where, content_index=0, delta=text)

    async def do_last(self, reason: str, usage: Any = None) -> None:
        await self._close()
        response: dict[str, Any] = {"id": "resp_1", "status": "completed", "output": self._items, "usage": usage}
        kind = "response.completed"
        if reason in ("length", "content_filter"):
            why = {"length": "max_output_tokens"}.get(reason, reason)
            kind, response = "response.incomplete", response | {"status": "incomplete"}
            response["incomplete_details"] = {"reason": why}
        await self.write(kind, response=response)

    async def do_finish(self, reason: str) -> None:
        await self.do_last(reason)

    async def do_end(self, end: Any) -> None:
        details = {"input_tokens_details": {"cached_tokens": end["cached"], "cache_write_tokens": 0}}
        details |= {"output_tokens_details": {"reasoning_tokens": end["reasoning"]}}
        total = end["input"] + end["output"]
        usage = {"input_tokens": end["input"], "output_tokens": end["output"], "total_tokens": total, **details}
        await self.do_last(end["reason"], usage)

    async def do_fail(self, kind: str) -> None:
        codes = {"rate_limited": "rate_limit_exceeded", "failed": "server_error"}
        error = {"code": codes[kind], "message": "sk-canary-said-by-the-provider"}
        response = {"id": "resp_1", "status": "failed", "error": error, "output": []}
        await self.write("response.failed", response=response)
