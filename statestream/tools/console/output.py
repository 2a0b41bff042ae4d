"""Where a command writes: results to stdout, everything else to stderr.

Invariants: text of others is made safe (`text.safe`, `text.json_text`) before it is written, here or by the caller.
"""

from __future__ import annotations

import os
import sys

import typer

from statestream.tools.console.text import json_text, safe


def notice(sentence: str) -> None:
    """Writes a sentence that is not a result to stderr."""
    typer.echo(f"statestream: {safe(sentence)}", err=True)


def write(line: bytes) -> None:
    """Writes a line of the result, which must be safe."""
    sys.stdout.buffer.write(line + b"\n")


def write_json(encoded: bytes) -> None:
    """Writes a line of JSON."""
    write(json_text(encoded))


def discard_stdout() -> None:
    """Drops what is still buffered for a stdout that accepts nothing, so that Python does not fail as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
