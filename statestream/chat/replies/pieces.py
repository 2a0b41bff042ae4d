"""Adds the pieces that models and agents yield to the parts of a reply.

Invariants: pure. What a piece contains is checked here, before it can reach the chat.
"""

from __future__ import annotations

import re
from typing import Any, Final

from statestream.chat.agents import (
    AgentPiece,
    Data,
    File,
    HandOver,
    Source,
    Speaker,
    Status,
    StoredFile,
    ToolResult,
    ToolUse,
)
from statestream.chat.approvals import approval_of
from statestream.chat.models import CallPiece, ModelFailed, Opaque, Piece, Reasoning, Refusal
from statestream.chat.replies.growth import cleaned
from statestream.chat.replies.reply_builder import OFFER, ReplyBuilder
from statestream.chat.replies.tools import error_of, outcome_of

MAX_DATA_ID: Final = 256
MAX_URL: Final = 2_048
MAX_TITLE: Final = 500
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)


def add(builder: ReplyBuilder, piece: AgentPiece) -> None:
    """Raises ModelFailed if the reply cannot hold the piece; TypeError, ValueError and NotJSON if it is none."""
    if isinstance(piece, ToolUse):
        _use(builder, piece)
    elif isinstance(piece, ToolResult):
        builder.result(piece.id, outcome_of("the tool", piece.result) if piece.error is None else error_of(piece.error))
    elif isinstance(piece, Data):
        (builder.tell if piece.transient else builder.data)(_data(piece))
    elif isinstance(piece, Source):
        builder.whole(_source(piece))
    elif isinstance(piece, StoredFile):
        builder.whole(piece.part, piece.actions)
    elif isinstance(piece, Status):
        builder.status(piece.text)
    elif isinstance(piece, Speaker):
        builder.speak(piece.agent)
    elif isinstance(piece, HandOver):
        raise ModelFailed("failed", "An agent that works for another one cannot hand over.")
    else:
        _add_of_model(builder, piece)


def _use(builder: ReplyBuilder, piece: ToolUse) -> None:
    approval = approval_of(piece.approval)
    if piece.frontend and approval is not None:
        raise ValueError("expected `approval` or `frontend`: the window that runs a tool can ask its person itself")
    builder.use(piece.id, piece.name, piece.arguments, OFFER if piece.frontend else approval)


def _add_of_model(builder: ReplyBuilder, piece: Piece | File) -> None:
    if isinstance(piece, str):
        builder.text("text", piece)
    elif isinstance(piece, CallPiece):
        builder.call(piece)
    elif isinstance(piece, Reasoning):
        builder.text("reasoning", piece.text)
    elif isinstance(piece, Refusal):
        builder.text("text", piece.text)
    elif isinstance(piece, Opaque):
        builder.opaque(piece.data)
    else:
        raise TypeError(f"expected a piece of a reply, got {type(piece).__name__}")


def _data(piece: Data) -> dict[str, Any]:
    if not _NAME.fullmatch(piece.name):
        raise ValueError(f"expected the name of data in 1 to 64 letters, digits, - and _, got {piece.name!r}")
    if piece.id is not None and not (isinstance(piece.id, str) and 0 < len(piece.id) <= MAX_DATA_ID):
        raise ValueError(f"expected the id of data to be text of 1 to {MAX_DATA_ID} characters")
    named = {} if piece.id is None else {"id": cleaned(piece.id)}
    return {"type": f"data-{piece.name}", **named, "data": piece.data}


def _source(piece: Source) -> dict[str, Any]:
    if len(piece.url) > MAX_URL or not piece.url.startswith(("https://", "http://")) or not piece.url.isprintable():
        raise ValueError(f"expected a URL of a source with https:// or http://, in at most {MAX_URL} characters")
    return {"type": "source", "url": piece.url, **({"title": cleaned(piece.title)[:MAX_TITLE]} if piece.title else {})}
