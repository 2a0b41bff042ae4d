"""`python -m tests.fuzz sse --seconds 600` fuzzes a target with atheris, which looks for inputs that reach new code.

Install it first: `pip install atheris`. Without a target, it names them. What it finds is printed, and belongs into a
test. Inputs are kept in a folder of their own if `--corpus` names one.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["statestream", "jsonpatch", "jsonpointer", "jwt"]):
        targets = importlib.import_module("tests.fuzz.targets")
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    folder: Path = options.corpus or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.SEEDS[options.target]):
        (folder / f"seed-{number}").write_bytes(seed)
    found = f"-artifact_prefix={folder}/"
    atheris.Setup(
        [sys.argv[0], str(folder), f"-max_total_time={options.seconds}", found], targets.TARGETS[options.target]
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
