"""The examples that have a folder of their own: their servers, and windows on their pages.

Invariants: an example runs as it is, from a copy whose journal is beside it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.browser import Tab
from tests.support.bundling import packages
from tests.support.node import Node
from tests.support.paths import NODE, ROOT
from tests.support.server import Server

EXAMPLES = ROOT / "examples"
PAGES = ("dashboard", "board", "form", "react-chat")
LIVE = "document.querySelector('.live')?.textContent === 'Live'"
ELSEWHERE = "performance.getEntriesByType('resource').filter(({ name }) => !name.startsWith(location.origin)).length"
POLICY = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_names = count()


class Window(Tab):
    """A browser of its own, large and light or narrow and dark, on the page of an example."""

    def __init__(self, browser: Node, url: str, *, narrow: bool = False, **look: Any) -> None:
        self.browser, self.name, self.width = browser, f"window{next(_names)}", 320 if narrow else 1280
        self.do("open", url=url, **{"width": self.width, "theme": "dark" if narrow else "light"} | look)

    def live(self) -> Window:
        self.wait(LIVE)
        return self

    def texts(self, selector: str) -> list[str]:
        return list(self.look(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)"))

    def wait_for(self, selector: str, *texts: str) -> None:
        """Until the elements have exactly these texts."""
        wanted = json.dumps(json.dumps(texts, ensure_ascii=False, separators=(",", ":")), ensure_ascii=False)
        elements = f"[...document.querySelectorAll({json.dumps(selector)})]"
        self.wait(f"JSON.stringify({elements}.map((e) => e.textContent)) === {wanted}")

    def is_well_made(self) -> None:
        """What axe says, whether it fits, where it loads from, and where it may."""
        self.wait("document.getAnimations().every(({ playState }) => playState !== 'running')")
        assert self.do("axe") == []
        assert self.look("document.documentElement.scrollWidth") <= self.width
        assert self.look(ELSEWHERE) == 0
        assert self.look("fetch('/').then(({ headers }) => headers.get('Content-Security-Policy'))") == POLICY

    def ends_well(self) -> None:
        self.is_well_made()
        assert self.close() == []


def copy_of(name: str, folder: Path) -> Path:
    """The application of an example, with its journal beside it."""
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "*.db*"))
    program = folder / "app.py"
    program.write_text(program.read_text().replace("sqlite:///", f"sqlite:///{folder}/"))
    return program


@contextmanager
def example(name: str, folder: Path) -> Iterator[Server]:
    with Server("serve", f"{copy_of(name, folder / name)}:app", env={"OPENAI_API_KEY": ""}) as server:
        yield server


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def react_chat(folder: Path) -> Iterator[Server]:
    """Built with the packages of the tests, which are those that it asks for."""
    program = copy_of("react-chat", folder / "react-chat")
    packages(program.parent, NODE / "web")
    run("node", "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn", cwd=program.parent)
    with Server("serve", f"{program}:app", env={"OPENAI_API_KEY": ""}) as server:
        yield server
