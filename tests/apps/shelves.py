"""A keyed slice whose instances are large: IDLE is the seconds after which they leave the memory, or `none`."""

from __future__ import annotations

import os
from typing import Any

from statestream import Slice, Store

shelf = Slice("shelf", initial={"books": []}, keyed=True)
catalogue = Slice("catalogue", initial={"shelves": 0})


@shelf.action
def filled(state: Any, *, books: list[str]) -> Any:
    return {"books": books}


@shelf.action
def added(state: Any, *, book: str) -> None:
    state["books"].append(book)


@catalogue.on(filled)
def _filled(state: Any) -> None:
    state["shelves"] += 1


IDLE = os.environ.get("IDLE", "60")
store = Store([shelf, catalogue], idle=None if IDLE == "none" else float(IDLE))
