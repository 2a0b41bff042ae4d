"""The rules that all providers have, or the strictest of them, for a conversation as messages of chat completions.

Invariants: pure.
"""

from __future__ import annotations

import json
import re
from typing import Any


def violation(messages: list[Any]) -> str | None:
    """The first rule of a known provider that a conversation breaks, or None."""
    roles = [message["role"] for message in messages]
    if roles[:1] == ["system"]:
        roles, messages = roles[1:], messages[1:]
    if roles[:1] != ["user"]:
        return "the conversation must begin with a user message"
    if roles[-1] not in ("user", "tool"):
        return "the last message must be a user's or a tool's"
    ids: set[str] = set()
    waiting: list[str] = []
    for before, message in zip([None, *messages], messages, strict=False):
        role = message["role"]
        if role == "tool":
            if waiting[:1] != [message["tool_call_id"]]:
                return "a tool message must answer the next call of the message before it"
            waiting.pop(0)
        elif waiting:
            return "every call must be followed by its outcome"
        elif before is not None and (role == "assistant") == (before["role"] == "assistant"):
            return "user and assistant must alternate"
        elif before is not None and before["role"] == "tool" and role != "assistant":
            return "an assistant message must follow the outcomes of tools"
        for call in message.get("tool_calls", ()):
            if call["id"] in ids or not call["id"]:
                return "the ids of calls must differ"
            if not re.fullmatch("[a-zA-Z0-9_-]{1,64}", call["function"]["name"]):
                return "the name of a function has only letters, digits, _ and -"
            if type(parsed(call["function"]["arguments"])) is not dict:
                return "the arguments of a call must be an object"
            ids.add(call["id"])
            waiting.append(call["id"])
        if not message.get("tool_calls") and not has_content(message["content"]):
            return "a message must not be empty"
    return "every call must be followed by its outcome" if waiting else None


def looseness(schema: Any) -> str | None:
    """What a schema has that strict providers do not take, or None."""
    if isinstance(schema, list):
        return next((loose for each in schema if (loose := looseness(each))), None)
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        if schema.get("additionalProperties") is not False:
            return "`additionalProperties` must be false"
        if set(schema.get("required", ())) != set(schema["properties"]):
            return "`required` must have every property"
    for name in ("default", "oneOf", "prefixItems", "discriminator"):
        if name in schema and not isinstance(schema[name], dict | list):
            return f"`{name}` is not permitted"
    return next((loose for each in schema.values() if (loose := looseness(each))), None)


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def has_content(content: Any) -> bool:
    """Whether there is text or a part, and no text is blank."""
    if isinstance(content, list):
        return bool(content) and all(has_content(part["text"]) for part in content if part["type"] == "text")
    return bool(content and content.strip())
