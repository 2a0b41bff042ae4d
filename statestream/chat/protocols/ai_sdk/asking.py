"""Answers a posted question: asks it, or regenerates its reply.

Invariants: `request` decides what a post means, the conversations what comes of it.
"""

from __future__ import annotations

from statestream.chat.chats import chat_key
from statestream.chat.conversations import Conversations
from statestream.chat.protocols.ai_sdk.request import Post
from statestream.core.errors import Malformed


async def answer(conversations: Conversations, key: str, post: Post, author: str | None, *, create: bool) -> str:
    """The id of the reply. `create`: whether a chat that does not exist is created.

    Raises NotFound, Malformed, Refused.
    """
    state = await conversations.current(key)
    if not create:
        await conversations.existing(key)
    question = post.to_regenerate(state)
    if question is not None:
        return await conversations.regenerate(key, question)
    return await conversations.ask(key, post.question(state, author), create=create)


def key_posted(post: Post) -> str:
    """The key of the chat that the body names. Raises Malformed."""
    if post.id is None:
        raise Malformed("expected `id`, the id of the chat")
    return chat_key(post.id)
