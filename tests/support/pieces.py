"""A provider's stream as chance makes it and as a parser reads it: any JSON, any events, any split of their bytes."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import strategies as st

from statestream.chat.models import ModelFailed, Piece
from statestream.chat.models.endpoint import Parser

texts: Final = st.text(alphabet=st.characters(), max_size=6)
anything: Final = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.just("\ud83d")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
counts: Final = st.integers(-1, 2**70)


def members(**known: Any) -> Any:
    """An object that has some of these members, each of its type or of any other."""
    return st.fixed_dictionaries({}, optional={name: st.one_of(value, anything) for name, value in known.items()})


def events(*values: Any) -> bytes:
    """The values as server-sent events."""
    return "".join(f"data: {json.dumps(value)}\n\n" for value in values).encode()


def pieces_from(parser: Parser, *parts: bytes) -> tuple[list[Piece], str | None]:
    """The pieces, and the kind of failure that ended them."""
    pieces = list[Piece]()
    try:
        for part in parts:
            pieces += parser.feed(part)
    except ModelFailed as failure:
        return pieces, failure.kind
    return pieces + list(parser.end()), None
