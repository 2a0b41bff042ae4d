"""What a streamed reply costs a subscriber in bytes: chunks that are appended, or a string that is replaced.

Counted are the frames of the state stream from the empty reply to the folded one, as they are on the wire
without HTTP's own framing.
"""

from __future__ import annotations

from typing import Any, Final

from statestream import Slice, Store
from statestream.core.change import Action, Change
from statestream.protocol import frames
from tests.benchmarks.measure import run, short, table

TOKENS: Final = 2_000
TOKEN: Final = " tok"

chunked = Slice("chunked", initial={"messages": [{"id": "m1", "parts": [{"type": "text", "text": "", "chunks": []}]}]})
whole = Slice("whole", initial={"messages": [{"id": "m1", "parts": [{"type": "text", "text": ""}]}]})


@chunked.action
def grew(state: Any, *, text: str) -> None:
    state["messages"][-1]["parts"][-1]["chunks"].append(text)


@chunked.action
def ended(state: Any) -> None:
    part = state["messages"][-1]["parts"][-1]
    part["text"] = "".join(part["chunks"])
    del part["chunks"]


@whole.action
def lengthened(state: Any, *, text: str) -> None:
    state["messages"][-1]["parts"][-1]["text"] += text


async def sizes(part: Slice, actions: list[Action]) -> list[int]:
    """The bytes of each action's frame."""
    seen: list[int] = []

    def count(change: Change) -> None:
        seen.append(len(frames.update(change, full=False)))

    async with Store([part]) as store:
        store.on_change(count)
        for action in actions:
            await store.dispatch(action)
        text = store.get(part.name)["messages"][-1]["parts"][-1]["text"]
    assert text == TOKEN * TOKENS, "the reply is not what was streamed"
    return seen


def main() -> None:
    tokens = range(TOKENS)
    both = {
        "append to chunks, fold at the end": (chunked, [*(grew(text=TOKEN) for _ in tokens), ended()]),
        "replace the growing string": (whole, [lengthened(text=TOKEN) for _ in tokens]),
    }
    rows, totals = [], []
    for name, (part, actions) in both.items():
        each = run(sizes(part, actions))
        totals.append(sum(each))
        rows.append(
            [
                name,
                f"{sum(each):,}",
                short(sum(each) / TOKENS),
                f"{each[0]:,}",
                f"{each[TOKENS - 1]:,}",
                f"{max(each):,}",
            ]
        )
    print(
        f"{TOKENS:,} tokens of {len(TOKEN)} characters, one action each: {TOKENS * len(TOKEN):,} characters of text.\n"
    )
    table(
        ["method", "bytes per subscriber", "bytes per token", "first frame", "last token's frame", "largest frame"],
        rows,
    )
    print(f"\nReplacing costs {short(totals[1] / totals[0])} times as much.")
