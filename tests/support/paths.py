"""The paths that tests use: the checkout, and the folder of the scripts that run in Node."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NODE = ROOT / "tests/node"
