"""`statestream check`: what it says about a journal, before code is deployed to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import Server
from tests.support.nursery import finished
from tests.support.pages import write_files
from tests.support.ran import Ran

OLD = """
from typing import Any

from statestream import Slice, Store

board = Slice("board", initial={"tasks": []})
comments = Slice("comments", initial=[])


@board.action
def added(state: Any, *, id: str) -> None:
    state["tasks"].append({"id": id})


store = Store([board, comments], journal="sqlite:///board.db")
"""


def check(folder: Path, *arguments: str) -> Ran:
    return finished("check", *arguments, folder=folder)


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """A folder with the journal that old code has written, and the new code of the how-to."""
    (tmp_path / "old.py").write_text(OLD)
    journal = f"sqlite:///{tmp_path / 'board.db'}"
    with Server.serving(f"{tmp_path / 'old.py'}:store", journal) as server:
        assert finished("dispatch", server.url, "board/added", '{"id": "1"}').code == 0
    write_files("howto/evolve.md", tmp_path)
    return tmp_path


def test_it_says_what_new_code_would_do_and_does_not_do_it(deployed: Path) -> None:
    for _ in range(2):
        ran = check(deployed, "board.py:store")
        assert ran.code == 1, "the title of a task is required now"
        first, *lines = ran.out.splitlines()
        assert first.startswith("The journal is at "), first
        assert "- version 2 of board is noted: 1 value" in lines
        assert "- board is upgraded: 1 value" in lines
        assert any(line.startswith("- comments is not declared: 1 value would stay") for line in lines)
        assert any("1 came from board/added with a payload that would be refused now" in line for line in lines)
    ran = check(deployed, "old.py:store")
    assert (ran.code, ran.out.splitlines()[1:]) == (0, ["It would write nothing."])


def test_the_new_code_then_does_it_and_the_old_is_refused(deployed: Path) -> None:
    journal = f"sqlite:///{deployed / 'board.db'}"
    with Server.serving(f"{deployed / 'board.py'}:store", journal) as server:
        shown = finished("state", server.url).out
    assert '"tasks": {' in shown
    ran = check(deployed, "old.py:store")
    assert ran.code == 1
    assert "version 2 of the slice board, but this code declares version 1; deploy the newer code" in ran.err
    with pytest.raises(RuntimeError, match="version 2 of the slice board, but this code declares version 1"):
        Server.serving(f"{deployed / 'old.py'}:store", journal).start()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("old.py:store", "--journal", "sqlite:///none.db"), 1, "there is no journal at none.db"),
        (("old.py:board",), 2, "expected a Store in old.py:board, got Slice; did you mean old.py:store?"),
        (("old.py:store", "--journal", "board.db"), 2, "a file is written sqlite:///board.db"),
    ],
)
def test_a_wrong_call_is_explained(tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    (tmp_path / "old.py").write_text(OLD)
    ran = check(tmp_path, *arguments)
    assert (ran.code, sentence in " ".join(ran.err.replace("│", " ").split())) == (code, True), ran.err
    assert not (tmp_path / "none.db").exists()
