"""A script of tests/node in its own process, which answers requests in lines of JSON."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Self

import orjson

from tests.support.paths import NODE


class Node:
    """A script of tests/node that answers lines of JSON."""

    def __init__(self, script: str, *arguments: str) -> None:
        command = ["node", str(NODE / script), *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=NODE)

    def ask(self, do: str, **more: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(orjson.dumps({"do": do, **more}) + b"\n")
        self.process.stdin.flush()
        try:
            line = self.process.stdout.readline()
        except BaseException:  # the test was interrupted: the answer would be taken for the next one's
            self.process.kill()
            self.process.wait()
            raise
        assert line, f"{self.process.args!r} has ended with {self.process.wait()}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    @property
    def is_lost(self) -> bool:
        """Whether it has ended, so that nobody can ask it any more."""
        return self.process.poll() is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)
