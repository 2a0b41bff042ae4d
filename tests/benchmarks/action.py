"""What one action costs: the store's own work for a request, beside a diff of the two states.

`ours` is what Working does: check the payload, run the handler on a draft, encode the operations.
`make_patch` gets the same two states and encodes its operations too. The states that it compares share
what the action did not touch, as they would in a server that keeps both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import jsonpatch
import orjson

from statestream import Slice
from statestream.core.change import Action, Position, SliceState
from statestream.store.loaded import LoadedSlices
from statestream.store.schemas import Schemas
from statestream.store.slow_calls import SlowCalls
from statestream.store.transaction import HandlerRegistry, Request, Transaction, accept
from tests.benchmarks.measure import calls_in, interleaved, median, ratio, seconds_each, short, table

SIZES: Final = (10, 1_000, 10_000, 100_000)
ROUNDS: Final = 5
OURS_SECONDS: Final = 0.1
THEIRS_SECONDS: Final = 0.3
SLOW_SECONDS: Final = 1.0
SLOW_ROUNDS: Final = 2
"""As many where one make_patch takes longer than SLOW_SECONDS."""

talk = Slice("talk", initial={"messages": [], "meta": {}})


def message(number: int) -> dict[str, Any]:
    """About 316 bytes of JSON."""
    return {
        "id": f"m{number:07d}",
        "role": "assistant" if number % 2 else "user",
        "status": "streaming",
        "flagged": False,
        "parts": [
            {
                "type": "text",
                "text": f"{number:06d} " + "lorem ipsum " * 9 + "dolo",
                "chunks": ["Hel", "lo", " wor", "ld"],
            }
        ],
        "created_at": 1_700_000_000_000 + number,
        "updated_at": 1_700_000_000_000 + number,
    }


@talk.action
def appended(state: Any, *, text: str) -> None:
    state["messages"][-1]["parts"][-1]["chunks"].append(text)


@talk.action
def toggled(state: Any, *, at: int) -> None:
    target = state["messages"][at]
    target["flagged"] = not target["flagged"]


@talk.action
def deleted(state: Any, *, at: int) -> None:
    del state["messages"][at]


@talk.action
def inserted(state: Any, *, at: int, message: dict[str, Any]) -> None:
    state["messages"].insert(at, message)


def actions(size: int) -> dict[str, Action]:
    middle = size // 2
    return {
        "append chunk to last": appended(text=" tok"),
        "toggle flag, middle": toggled(at=middle),
        "delete, middle": deleted(at=middle),
        "insert, middle": inserted(at=middle, message=message(size)),
    }


class Case:
    """One action on a state of one size, both ways."""

    def __init__(self, size: int, action: Action) -> None:
        self.before = {"messages": [message(number) for number in range(size)], "meta": {}}
        self._rules = HandlerRegistry([talk])
        self._committed = LoadedSlices()
        self._committed.put("talk", SliceState(self.before, Position(seq=1, tag="bench")))
        self._request = accept([action], id="bench", idempotent=False, actor=None, at=0, expect={}, parsed=False)
        self.after = self._after(self._request)

    def _after(self, request: Request) -> Any:
        working = Transaction(self._rules, self._committed, SlowCalls(), Schemas(self._rules.slices))
        (effect,) = working.run(request)
        self.ours_bytes = len(effect.data)
        return working._values["talk"]

    def ours(self) -> None:
        Transaction(self._rules, self._committed, SlowCalls(), Schemas(self._rules.slices)).run(self._request)

    def theirs(self) -> bytes:
        return orjson.dumps(jsonpatch.make_patch(self.before, self.after).patch)


def timed(run: Callable[[], object], seconds: float) -> Callable[[], float]:
    times = calls_in(run, seconds)
    return lambda: seconds_each(run, times) * 1e6


def measured(size: int, name: str, action: Action) -> list[str]:
    """A row of the table."""
    case = Case(size, action)
    theirs_bytes = len(case.theirs())
    slow = seconds_each(case.theirs, 1) > SLOW_SECONDS
    rounds = interleaved(
        {"ours": timed(case.ours, OURS_SECONDS), "theirs": timed(case.theirs, THEIRS_SECONDS)},
        SLOW_ROUNDS if slow else ROUNDS,
    )
    ours, theirs = rounds["ours"], rounds["theirs"]
    figures = [short(median(ours)), short(median(theirs)), f"x{short(ratio(theirs, ours))}"]
    print(f"  {size} {name}: {figures}", file=sys.stderr, flush=True)
    return [f"{size:,}", name, *figures, f"{case.ours_bytes:,}", f"{theirs_bytes:,}"]


def main() -> None:
    rows = [measured(size, name, action) for size in SIZES for name, action in actions(size).items()]
    head = ["messages", "action", "ours, µs", "make_patch, µs", "ratio", "ours, bytes", "make_patch, bytes"]
    print(f"A message has {len(orjson.dumps(message(1)))} bytes. Medians of {ROUNDS} interleaved rounds, or")
    print(f"of {SLOW_ROUNDS} if one make_patch takes more than {SLOW_SECONDS:g} s.\n")
    table(head, rows)
