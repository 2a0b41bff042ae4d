"""The web client in Node, by Node's own test runner: the pure core, dispatching and following."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.paths import NODE

FILES = sorted((NODE / "client").glob("*.test.mjs"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_it_passes_in_node(file: object) -> None:
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(file)],
        capture_output=True,
        text=True,
        cwd=NODE,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_such_tests() -> None:
    names = ["chat_page", "core", "dispatch", "hooks", "inspector", "overlay", "selection", "stream"]
    assert [file.name for file in FILES] == [f"{name}.test.mjs" for name in names]
