"""The application tests/apps/hooked.py, with the pages of tests/node/hooks, and what tests of React do there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import NODE, ROOT
from tests.support.server import Server

APP = f"{ROOT / 'tests/apps/hooked.py'}:app"
HOOKS = NODE / "hooks"
VERSIONS = {"18": NODE / "react18", "19": NODE / "web"}
"""The folders with the oldest React that the hooks support, and with the newest one."""
FRAMES = """void (() => {
  Object.assign(globalThis, { frames: 0, most: 0 });
  const real = requestAnimationFrame, drawn = () => Math.max(...Object.values(renders));
  let before = { ...renders };
  const tick = () => {
    frames += 1;
    for (const name of Object.keys(renders)) most = Math.max(most, renders[name] - (before[name] ?? renders[name]));
    before = { ...renders };
    real(tick);
  };
  real(tick);
})()"""
"""`most` is how often one component was drawn between two frames."""


@contextmanager
def serving(pages: Path, **env: str) -> Iterator[Server]:
    with Server("serve", APP, env={"PAGES": str(pages), "PYTHONPATH": str(ROOT), **env}) as running:
        yield running


def texts(*selectors: str) -> str:
    """A script: what these elements show."""
    return f"{json.dumps(selectors)}.map((each) => document.querySelector(each)?.textContent)"
