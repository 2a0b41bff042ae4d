"""`statestream check`: what it says about a journal, before code is deployed to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

ROOMS = """
from typing import Any

from statestream import Slice, Store

room = Slice("room", initial={"members": []}, keyed=True)


@room.action
def joined(state: Any, *, who: int) -> None:
    state["members"].append(who)


store = Store([room], journal="sqlite:///rooms.db")
"""
UPGRADE = """

@room.upgrade(2)
def first_member(state: Any) -> Any:
    return {"member": {0: "the first"}[state["members"][0]]}
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


async def test_it_names_the_values_that_new_code_could_not_use(tmp_path: Path) -> None:
    old: dict[str, Any] = {}
    exec(ROOMS, old)
    old["store"].use_journal(f"sqlite:///{tmp_path / 'rooms.db'}")
    async with old["store"] as store:
        await store.dispatch([old["joined"](str(number), who=number) for number in range(55)])
    new = ROOMS.replace("keyed=True", "keyed=True, version=2").replace("\nstore =", f"{UPGRADE}\nstore =")
    (tmp_path / "new.py").write_text(new)
    ran = check(tmp_path, "new.py:store")
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert "- 55 values of room are of an earlier version; each is upgraded when it is first read or written" in lines
    failed = "the upgrade of room to version 2 failed: KeyError; it stays as it was"
    assert f"- room/11 of the journal cannot be upgraded: {failed}" in lines
    assert "- 4 more values cannot be used either" in lines
    (tmp_path / "typed.py").write_text(ROOMS.replace("keyed=True", "keyed=True, type=dict[str, list[str]]"))
    ran = check(tmp_path, "typed.py:store")
    assert ran.code == 1
    assert "- room/11 in the journal does not fit the type of its slice: at /members/0: " in ran.out


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
