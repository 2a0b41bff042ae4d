"""Hooks of schemathesis: what no schema can say of a request, and what is there to ask for.

For JSON Schema, 2.0 is an integer; for the protocol it is another value than 2. The limits on the id of a chat and on
the name of a person count characters as a key has them. The last message in a body with a question has content. Every
other request is about the chat that exists, and about a message that it has.

Invariants: the parts of a request that are meant to be wrong stay as they are.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import schemathesis
from schemathesis.core.parameters import ParameterLocation

MAX_KEY, MAX_PERSON = 112, 128
ASKING = {"POST /api/chat", "POST /api/chats/{id}/stream", "POST /ag-ui"}
CHAT, MESSAGE = "known", "q1"
QUESTION = {"id": MESSAGE, "role": "user", "content": "What is it?"}


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    """The body with whole numbers as any program writes them."""
    return whole(body)


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


@schemathesis.hook
def before_call(_: Any, case: Any, kwargs: Any) -> None:
    body, meta = case.body, case.meta
    if meta is None:
        return
    if case.operation.label in ASKING and not meta.is_negative_at(ParameterLocation.BODY) and isinstance(body, dict):
        body["messages"] = [*(body.get("messages") or []), QUESTION]
    if meta.generation.mode.is_negative or case.operation.method == "delete" or "id" not in case.path_parameters:
        return
    if len(str(case.path_parameters["id"])) % 2:
        case.path_parameters["id"] = CHAT
        if isinstance(body, dict) and "message" in body:
            body["message"] = MESSAGE
        if "before" in (case.query or {}):
            case.query["before"] = MESSAGE


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
