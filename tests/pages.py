"""What a page of the documentation has to run: its files, the fences with a title.

Law: reading only. `tests/test_howtos.py` and `tests/test_proxies.py` use the files; a page's untitled Python is
run by `tests/test_project.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import ROOT

DOCS = ROOT / "docs"
_FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.DOTALL | re.MULTILINE)


def files_of(page: str) -> dict[str, str]:
    """The files of a page by their names."""
    return dict(_FILE.findall((DOCS / page).read_text(encoding="utf-8")))


def write_files(page: str, folder: Path) -> Path:
    """Puts a page's files into the folder, as its reader would."""
    for name, text in files_of(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
