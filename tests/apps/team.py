"""A chat with agents that work with each other and continue what was cut off. People have names (see `by_name`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from statestream import Store, create_app
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, Task
from statestream.chat.agents.context import Context
from statestream.chat.messages import text_of
from tests.apps.by_name import auth

Pieces = AsyncGenerator[AgentPiece, None]

chat = Chat(titles=False)


@chat.agent
async def counter(task: Task, context: Context) -> Pieces:
    """Counts to two, and to four if it is to continue."""
    if task.continues is None:
        yield "1 "
        yield "2 "
        await asyncio.sleep(3600)
    else:
        roles = " ".join(turn.role for turn in task.turns)
        yield f"3 4 (after ‘{text_of(task.continues)}’, {task.continues['status']}; {roles})"


store = Store(chat.slices, journal=os.environ.get("JOURNAL", "memory:"))
app = create_app(store, auth=auth)
chat.setup(app)
