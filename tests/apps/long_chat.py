"""A chat of MANY messages, for applications that are to have one."""

from __future__ import annotations

import os
from typing import Any

from aiohttp import web

from statestream.chat.members import person_key
from statestream.chat.slices import conversation
from statestream.server.request import STORE

LONG = "long"
READER = "reader"


def many(count: int) -> list[dict[str, Any]]:
    """Questions and answers."""
    common = {"status": "complete", "created_at": 1, "updated_at": 1}
    messages = []
    for number in range(count):
        who = {"role": "assistant", "model": "scripted"} if number % 2 else {"role": "user", "author": READER}
        parent = {"parent": f"m{number - 1}"} if number else {}
        text = f"Message {number}, with **some** `code` and more words than one line of a narrow window has room for."
        messages.append({"id": f"m{number}", **who, **parent, **common, "parts": [{"type": "text", "text": text}]})
    return messages


async def fill(app: web.Application) -> None:
    """The chat `long`, whose messages are all live until somebody asks something there."""
    messages = many(int(os.environ.get("MANY", "0")))
    if messages:
        await app[STORE].dispatch(conversation.created(LONG, user=person_key(READER)))
        await app[STORE].dispatch(conversation.restored(LONG, messages=messages, places=list(range(len(messages)))))
        await app[STORE].dispatch(conversation.branched(LONG, message=messages[0]["id"]))
