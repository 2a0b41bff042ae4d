"""A chat with the tools of an MCP server: at TOOLBOX_URL, with TOOLBOX_TOKEN, or else the command TOOLBOX_COMMAND.

The model is at CHATTY_UPSTREAM. CHATTY_TOOL are the seconds that a tool may take.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from statestream import Store, create_app
from statestream.chat import Chat, Timeouts
from statestream.chat.models.openai import OpenAIModel

chat = Chat(
    model=OpenAIModel("test-model", base_url=os.environ["CHATTY_UPSTREAM"]),
    timeouts=Timeouts(tool=float(os.environ.get("CHATTY_TOOL", "30"))),
    titles=False,
)


@chat.tool
def toolbox_taken() -> str:
    """Has its name first."""
    return "mine"


def costly(tool: str, arguments: Mapping[str, Any]) -> bool:
    """Which calls somebody has to approve."""
    return tool == "add" and arguments["a"] > 1_000


if "TOOLBOX_URL" in os.environ:
    token = os.environ.get("TOOLBOX_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    chat.mcp("toolbox", url=os.environ["TOOLBOX_URL"], headers=headers)
else:
    older = {"OLDER": "1"} if "OLDER" in os.environ else {}
    env = {"SECRET": "known", **older}
    chat.mcp("toolbox", command=shlex.split(os.environ["TOOLBOX_COMMAND"]), env=env, approval=costly)

app = create_app(Store(chat.slices))
chat.setup(app)
