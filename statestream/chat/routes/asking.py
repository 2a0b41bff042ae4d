"""What is done with a posted question, in whatever protocol it came: asked, asked otherwise, or answered again.

Invariants: what a post means is decided in questions.py, what comes of it in conversations.py.
"""

from __future__ import annotations

from statestream.chat.conversations import Conversations
from statestream.chat.questions import Post
from statestream.chat.routes.chats import chat_key
from statestream.core.errors import Malformed


async def answered(conversations: Conversations, key: str, post: Post, author: str | None, *, create: bool) -> str:
    """The id of the reply. Raises NotFound where the chat is not there and not to be made, Malformed, Refused."""
    state = await conversations.current(key)
    if not create:
        await conversations.existing(key)
    again = post.to_answer_again(state)
    if again is not None:
        return await conversations.regenerate(key, again)
    return await conversations.ask(key, post.asked(state, author), create=create)


def key_posted(post: Post) -> str:
    """The key of the chat that the body names. Raises Malformed."""
    if post.id is None:
        raise Malformed("expected `id`, the chat's")
    return chat_key(post.id)
