"""Hooks of schemathesis: what no schema can say of a request.

For JSON Schema, 2.0 is an integer; for the protocol it is another value than 2. The limits on the id of a chat and on
the name of a person count characters as a key has them. The last message in a body with a question has content.

Invariants: requests that are meant to be wrong stay as they are.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import schemathesis

MAX_KEY, MAX_PERSON = 112, 128
ASKING = {"POST /api/chat", "POST /api/chats/{id}/stream", "POST /ag-ui"}
QUESTION = {"id": "q1", "role": "user", "content": "What is it?"}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """The body with whole numbers as any program writes them, and with a question."""
    body = whole(body)
    messages = body.get("messages", []) if isinstance(body, dict) else None
    if context.operation.label in ASKING and isinstance(messages, list):
        body["messages"] = [*messages, QUESTION]
    return body


@schemathesis.hook
def filter_path_parameters(_: Any, path_parameters: Any) -> bool:
    """Whether the id of a chat, and the name of a person, can be one."""
    found = path_parameters or {}
    return fits(found.get("id"), MAX_KEY) and fits(found.get("subject"), MAX_PERSON)


@schemathesis.hook
def filter_body(_: Any, body: Any) -> bool:
    found = body if isinstance(body, dict) else {}
    chat = fits(found.get("id"), MAX_KEY) and fits(found.get("threadId"), MAX_KEY)
    return chat and fits(found.get("subject"), MAX_PERSON)


def fits(text: Any, most: int) -> bool:
    """Whether a text is short enough in a key. What is no text is for others to refuse."""
    return not isinstance(text, str) or len(quote(text, safe=":@", errors="replace")) <= most


def whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [whole(each) for each in value]
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}
    return value
