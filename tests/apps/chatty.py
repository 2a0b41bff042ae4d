"""The application under test for the chat: its model is wherever CHATTY_UPSTREAM says, through the openai package.

CHATTY_JOURNAL, and CHATTY_FIRST, CHATTY_IDLE, CHATTY_TOTAL (seconds) come from the environment too: an
application has no options on the command line. The key is OPENAI_API_KEY, as in production.
"""

from __future__ import annotations

import os

from statestream import Store, create_app
from statestream.chat import Chat, Timeouts
from statestream.chat.models.openai import OpenAIModel

chat = Chat(
    model=OpenAIModel("test-model", base_url=os.environ["CHATTY_UPSTREAM"]),
    timeouts=Timeouts(
        first=float(os.environ.get("CHATTY_FIRST", "30")),
        idle=float(os.environ.get("CHATTY_IDLE", "30")),
        total=float(os.environ.get("CHATTY_TOTAL", "60")),
    ),
)
app = create_app(Store(chat.slices, journal=os.environ.get("CHATTY_JOURNAL", "memory:")))
chat.add_to(app)
