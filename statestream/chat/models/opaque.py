"""The opaque data of OpenAI-compatible providers: what they send with an answer and want back.

    of an answer  {"members": {"reasoning_details": […], …}, "thought": "reasoning_content"}
    of a call     {"extra_content": {…}, …, "function": {…}}

An answer keeps the members of MEMBERS, a call every member that the API does not define. `thought` is the name under
which the provider sends what the model thinks. The thought itself is the reasoning of the turn, and is not kept twice.

Invariants: pure. Data is JSON text, so that numbers and nesting beyond those of the state come back as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from statestream.chat.models import ModelFailed, Turn
from statestream.chat.models.failures import BROKEN_OFF

MAX_DEPTH: Final = 100
MEMBERS: Final = frozenset(
    {
        "reasoning_details",
        "thinking_blocks",
        "extra_content",
        "reasoning_opaque",
        "reasoning_signature",
        "thought_signature",
    }
)
"""The members of a delta that come back: of OpenRouter and MiniMax, LiteLLM, Gemini, Copilot, and gateways to them."""
THOUGHTS: Final = ("reasoning_content", "reasoning")
"""The names under which providers send what a model thinks."""
_CALL: Final = frozenset({"index", "id", "type", "function", "name", "arguments"})
_TEXTS: Final = frozenset({"text", "thinking", "summary"})
"""The members of a block that arrive in fragments."""
_COMPLETE: Final = frozenset({"signature", "data"})
"""A block that has one of these is complete: what follows is another one."""
_PLACES: Final = ("type", "index", "id")


def dumped(value: Any, *, readable: bool = False) -> str:
    """JSON text, in ASCII unless it is to be `readable`. Raises ValueError for non-JSON values and deep nesting."""
    _check_depth(value, MAX_DEPTH)
    return json.dumps(value, allow_nan=False, ensure_ascii=not readable, separators=(",", ":"))


def json_text(value: Any, *, readable: bool = False) -> str:
    """JSON text of a value that a provider has sent. Raises ModelFailed if it cannot be written as JSON."""
    try:
        return dumped(value, readable=readable)
    except ValueError:
        raise ModelFailed(*BROKEN_OFF) from None


def _check_depth(value: Any, left: int) -> None:
    items = value.values() if type(value) is dict else value if type(value) is list else ()
    if not left:
        raise ValueError("the value is nested too deep")
    for item in items:
        _check_depth(item, left - 1)


def of_answer(delta: dict[str, Any]) -> dict[str, Any]:
    """The members of a delta that come back with the answer."""
    return {name: delta[name] for name in MEMBERS & delta.keys() if delta[name]}


def of_call(call: dict[str, Any]) -> dict[str, Any]:
    """The members of a tool call that come back with it."""
    kept = {name: value for name, value in call.items() if name not in _CALL and value}
    function = call.get("function")
    if type(function) is dict:
        more = {name: value for name, value in function.items() if name not in _CALL and value}
        kept |= {"function": more} if more else {}
    return kept


def merged(kept: Any, more: Any) -> Any:
    """Merges both, and prefers the newer one: objects by their members, lists one after the other."""
    if type(kept) is dict and type(more) is dict:
        return {**kept, **{name: merged(kept[name], value) if name in kept else value for name, value in more.items()}}
    if type(kept) is list and type(more) is list:
        blocks = list(kept)
        for block in more:
            if blocks and _continues(blocks[-1], block):
                blocks[-1] = _continued(blocks[-1], block)
            else:
                blocks.append(block)
        return blocks
    return more


def _continues(block: Any, fragment: Any) -> bool:
    """Whether this is the next fragment of the same block."""
    if type(block) is not dict or type(fragment) is not dict or _COMPLETE & {name for name in block if block[name]}:
        return False
    if "data" in fragment or not any(type(fragment.get(name)) is str for name in _TEXTS | {"signature"}):
        return False
    return all(name not in fragment or block.get(name) == fragment[name] for name in _PLACES)


def _continued(block: dict[str, Any], fragment: dict[str, Any]) -> dict[str, Any]:
    """The block with a further fragment."""
    longer = dict(block)
    for name, value in fragment.items():
        before = longer.get(name)
        if name in _TEXTS and type(before) is str and type(value) is str:
            longer[name] = before + value
        elif value is not None:
            longer[name] = value
    return longer


def members_of(opaque: Iterable[str]) -> dict[str, Any]:
    """The members that come back, from the data that was kept."""
    members: dict[str, Any] = {}
    for data in opaque:
        members = merged(members, json.loads(data))
    return members


def thought_of(turns: Sequence[Turn]) -> str | None:
    """The name under which this provider wants its thoughts back; None if it does not need them.

    Once the conversation has tool calls, some providers want the member with every answer, even if the model thought
    nothing. Without calls, others reject it.
    """
    if all(not turn.calls for turn in turns):
        return None
    return next((thought for turn in reversed(turns) if (thought := members_of(turn.opaque).get("thought"))), None)
