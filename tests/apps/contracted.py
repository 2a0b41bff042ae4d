"""Everything that the documents for programs describe: slices with rules, a chat, and people with tokens."""

from __future__ import annotations

from typing import Any, Literal

from statestream import Slice, Store, create_app
from statestream.auth import Tokens, anyone, role, signed_in
from statestream.chat import Chat
from statestream.chat.models.demo import DemoModel
from statestream.server.limits import Limits

ADA = "token-of-ada-0123456789-0123456789-abcdef"
CHIEF = "token-of-the-chief-0123456789-0123456789"

board = Slice("board", initial={"tasks": {}}, read=anyone, dispatch=signed_in)
room = Slice("room", initial={"members": []}, keyed=True, read=signed_in, dispatch=signed_in)
payroll = Slice("payroll", initial={"of": {}}, read=role("chief"), dispatch=role("chief"))


@board.action
def added(state: Any, *, id: str, kind: Literal["bug", "wish"] = "bug") -> None:
    """Adds a task."""
    state["tasks"][f"task {id[:10]}"] = kind


@room.action
def joined(state: Any, *, name: str) -> None:
    """Somebody enters."""
    state["members"] = [name]


@payroll.action
def paid(state: Any, *, who: str, amount: int) -> None:
    """Pays somebody."""
    state["of"]["one"] = amount


chat = Chat(model=DemoModel(words_a_second=100_000), titles=False)
app = create_app(
    Store([board, room, payroll, *chat.slices]),
    auth=Tokens({ADA: {"subject": "ada"}, CHIEF: {"subject": "eve", "roles": ["chief"]}}),
    limits=Limits(streams_per_identity=None, dispatches_per_second=None, instances_per_hour=None, runs_per_day=None),
    inspect=signed_in,
)
chat.setup(app)
