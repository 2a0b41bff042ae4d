"""A chat with tools that people have to approve, or with an agent that asks for approval (`by_name`: who people are).

CHATTY_UPSTREAM is where the model is, JOURNAL the journal, AUTH whether people have names. `ordered` shows which calls
have run, and for whom.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from statestream import Slice, Store, create_app
from statestream.auth import signed_in
from statestream.chat import Approval, Chat
from statestream.chat.agents import AgentPiece, Task, ToolResult, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.models.openai import OpenAIModel
from tests.apps.by_name import auth

NAMED = bool(os.environ.get("AUTH"))
RULES: dict[str, Any] = {"read": signed_in, "dispatch": signed_in} if NAMED else {}

ordered = Slice("ordered", initial={"calls": []}, **RULES)


@ordered.action
def placed(state: Any, *, call: str) -> None:
    state["calls"].append(call)


chat = Chat(model=OpenAIModel("test-model", base_url=os.environ["CHATTY_UPSTREAM"]), titles=False, lease=1)


@chat.tool(approval=True)
async def order(id: int, context: Context) -> str:
    """Orders a book."""
    who = None if context.identity is None else context.identity.subject
    await context.dispatch(placed(call=f"{id} for {who} by {context.call} in {context.chat}"))
    return f"ordered {id}"


def _large(arguments: Mapping[str, Any]) -> Approval | bool:
    if 50 < arguments["amount"] <= 100:
        return True
    return (
        Approval(role="boss", seconds=float(os.environ.get("PATIENCE", "3600"))) if arguments["amount"] > 100 else None
    )


@chat.tool(approval=_large)
def pay(amount: int) -> str:
    """Pays an amount."""
    return f"paid {amount}"


@chat.tool
async def whoami(context: Context) -> str:
    """Who asks."""
    return "nobody" if context.identity is None else context.identity.subject


@chat.tool(frontend=True)
def locate(precision: str = "city") -> dict[str, float]:
    """Where the person is."""
    raise AssertionError("a window runs it")


agents = Chat(titles=False, lease=1)


@agents.agent
async def buyer(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    """Asks before it buys, and remembers over the wait what it has found."""
    decided = task.decided.get("buy")
    if decided is None:
        yield "I have found a book. "
        await context.store("found", {"id": 7})
        yield ToolUse(id="buy", name="buy", arguments={"id": 7}, approval=True)
        return
    found = context.stored["found"]["id"]
    if not decided.approved:
        yield f"Then not {found}: {decided.reason or 'no reason'}."
        return
    yield ToolResult(id="buy", result={"bought": decided.arguments["id"]})
    yield f"{decided.by or 'Somebody'} let me buy {decided.arguments['id']}, not {found}."


made = agents if os.environ.get("AGENTS") else chat
app = create_app(
    Store([ordered, *made.slices], journal=os.environ.get("JOURNAL", "memory:")),
    auth=auth if NAMED else None,
)
made.setup(app)
