"""What a page of the documentation has to run: its files, the fences with a title; its Python; its lines for a shell.

Invariants: reading only. `tests/docs/test_howtos.py`, `tests/docs/test_walkthroughs.py` and
`tests/server/test_proxies.py` use the files and the lines; a page's untitled Python is run by
`tests/docs/test_project.py`. README.md is `../README.md`.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import ROOT

DOCS = ROOT / "docs"
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def files_of(page: str) -> dict[str, str]:
    """The files of a page by their names."""
    return {title: text for _, title, text in _FENCE.findall((DOCS / page).read_text(encoding="utf-8")) if title}


def fences_of(page: str, language: str) -> list[str]:
    """What stands in the page's other fences of a language, in order."""
    found = _FENCE.findall((DOCS / page).read_text(encoding="utf-8"))
    return [text for its, title, text in found if its == language and not title]


def terminals_of(page: str) -> list[list[str]]:
    """The page's lines for a shell; of each fence what goes into one terminal and into another."""
    fences = fences_of(page, "sh")
    return [[typed.strip() for typed in re.split(r"^# in .*\n", text, flags=re.MULTILINE) if typed] for text in fences]


def write_files(page: str, folder: Path) -> Path:
    """Puts a page's files into the folder, as its reader would."""
    for name, text in files_of(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
