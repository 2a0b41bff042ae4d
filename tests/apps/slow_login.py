"""A chat whose login service takes its time: it says who somebody is once their name is written to the pipe LOGIN."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aiohttp import web

from statestream import Identity, Store, create_app
from statestream.chat import Chat
from statestream.chat.models.demo import DemoModel


async def login(_: web.Request) -> Identity:
    return Identity(subject=await asyncio.to_thread(Path(os.environ["LOGIN"]).read_text))


chat = Chat(model=DemoModel(words_a_second=100_000), titles=False)
app = create_app(Store([*chat.slices]), auth=login)
chat.setup(app)
