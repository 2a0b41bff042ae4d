"""An action that is dispatched many times, with a payload and a key that differ from change to change.

Invariants: pure. Every request has an id of its own, which begins with the name of the run.
"""

from __future__ import annotations

import orjson
from msgspec import Struct

from statestream.core.errors import Malformed
from statestream.core.names import check_key
from statestream.core.values import loads


class ActionTemplate(Struct, frozen=True, kw_only=True):
    """An action in which `{n}` stands for the number of the change, and `{run}` for a part of the name of the run."""

    type: str
    payload: str = "{}"
    key: str | None = None

    def body(self, run: str, number: int) -> bytes:
        """The body of a dispatch. `run` is a prefix such as `bench-1f2e3d4c-`. Raises Malformed."""
        payload = loads(self._fill(self.payload, run, number).encode())
        if not isinstance(payload, dict):
            raise Malformed('expected the payload to be a JSON object such as {"id": "{n}"}')
        body = {"type": self.type, "payload": payload, "id": f"{run}{number}"}
        if self.key is not None:
            body["key"] = check_key(self._fill(self.key, run, number))
        return orjson.dumps(body)

    def _fill(self, text: str, run: str, number: int) -> str:
        return text.replace("{n}", str(number)).replace("{run}", run.strip("-").rpartition("-")[2])
