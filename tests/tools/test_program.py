"""A program that `serve` or `check` cannot import: what the command prints.

Invariants: messages about names that lead nowhere are tested where the options are.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.nursery import finished

SHORT = """from statestream.auth import Tokens

tokens = Tokens({"short": {"subject": "ada"}})
"""


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (SHORT, "ValueError: expected token 1 to have at least 32 characters, got 5"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def broken(:\n", "SyntaxError: invalid syntax"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_traceback_begins_in_the_program(tmp_path: Path, command: str, text: str, last: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(text)
    ran = finished(command, f"{program}:store")
    *lines, reason, sentence = ran.err.splitlines()
    assert (ran.code, ran.out) == (1, "")
    assert (reason, sentence) == (last, f"statestream: cannot import {program}: the lines above show where it fails")
    files = [line.split('"')[1] for line in lines if line.startswith('  File "')]
    assert files[0] == str(program)
    assert not [name for name in files if "typer" in name or "console" in name]
