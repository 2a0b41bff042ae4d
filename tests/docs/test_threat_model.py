"""Every defence on the page about threats names tests, and these exist."""

from __future__ import annotations

import re

import pytest

from tests.support import ROOT
from tests.support.pages import DOCS

PAGE = (DOCS / "explanation/threat-model.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::([a-z0-9_]+))?`")


@pytest.mark.parametrize("place", sorted(set(NAMED.findall(PAGE))), ids="::".join)
def test_a_test_that_is_named_exists(place: tuple[str, str]) -> None:
    path, name = place
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not name or re.search(rf"^(?:async )?def {name}\(", text, flags=re.MULTILINE)


def test_every_defence_names_a_test() -> None:
    defences = 0
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        if "| Threat | Defence | Tests |" in section:
            rows = [line.split("|") for line in section.splitlines() if line.startswith("|")][2:]
            assert [threat for _, threat, _, tests, _ in rows if not NAMED.search(tests)] == []
            defences += len(rows)
    assert defences > 25
