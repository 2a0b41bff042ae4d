"""The part of a message about an unknown name: the name, and similar names that the reader may have meant.

Invariants: pure, and bounded however long the name is and however many there are. Only names that the caller passes in
are suggested, so the caller decides who sees them. Text that does not look like a name is not repeated: it may be a
secret, or a payload in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from typing import Final

MAX_COMPARED: Final = 200
MAX_LISTED: Final = 10
SIMILAR: Final = 0.7
_LIKE_A_NAME: Final = re.compile(r"[A-Za-z0-9_/*.-]{1,80}", re.ASCII)


def named(name: str) -> str:
    """The name, preceded by a space; nothing if the text does not look like a name."""
    return f" {name}" if _LIKE_A_NAME.fullmatch(name) else ""


def instead(name: str, known: Iterable[str], what: str, spelt: Mapping[str, str] | None = None) -> str:
    """The end of a sentence: the known name that is closest to `name`, or all of them.

    `what` is the plural of their kind. `spelt` has the names that are shown in another form.
    """
    names = sorted(islice(known, MAX_COMPARED))
    if not names:
        return f"; there are no {what}"
    close = get_close_matches(name, names, n=1, cutoff=SIMILAR) if _LIKE_A_NAME.fullmatch(name) else []
    shown = [(spelt or {}).get(each, each) for each in close or names]
    return f"; did you mean {shown[0]}?" if close else f"; the {what} are {listed(shown)}"


def listed(names: Sequence[str]) -> str:
    """`a, b, c`, with at most MAX_LISTED names."""
    more = len(names) - MAX_LISTED
    return ", ".join(names[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
