"""The chat under test beside the board: what a front end has as its state while it chats."""

from __future__ import annotations

import os

from statestream import Store, create_app
from tests.apps.board import board, counter, room
from tests.apps.chatty import chat

app = create_app(Store([board, room, counter, *chat.slices], journal=os.environ.get("CHATTY_JOURNAL", "memory:")))
chat.setup(app)
