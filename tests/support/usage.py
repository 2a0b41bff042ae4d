"""Wrong calls of the command, in this process: a process of its own takes a second just to start."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from statestream.tools import cli


def wrong_usage(*arguments: Any) -> str:
    """What the command says about a wrong call."""
    ran = CliRunner().invoke(cli.app, list(map(str, arguments)), env={"COLUMNS": "200"})
    assert ran.exit_code == 2, ran.output
    assert isinstance(ran.exception, SystemExit)
    return ran.output
