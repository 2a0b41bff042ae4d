"""Slices that some may erase, and others not."""

from __future__ import annotations

from typing import Any

from statestream import Identity, Slice, Store, create_app
from statestream.core.rules import anyone, role, signed_in
from tests.apps.by_name import auth


def own(identity: Identity | None, key: str) -> bool:
    return identity is not None and identity.subject == key


note = Slice("note", initial={"text": ""}, keyed=True, read=own, dispatch=own, erase=own)
forum = Slice("forum", initial={"text": ""}, keyed=True, read=anyone, dispatch=signed_in, erase=role("moderator"))
ledger = Slice("ledger", initial={"text": ""}, keyed=True, read=anyone, dispatch=signed_in)
secret = Slice("secret", initial={"text": ""}, keyed=True, read=role("chief"), erase=anyone)
board = Slice("board", initial={"text": ""}, read=anyone)


def written(state: Any, *, text: str) -> None:
    state["text"] = text


for each in (note, forum, ledger):
    each.action(written)


app = create_app(Store([note, forum, ledger, secret, board]), auth=auth)
