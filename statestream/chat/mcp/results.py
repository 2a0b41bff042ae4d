"""The answers of an MCP server as outcomes of calls.

Structured content is used as it is. Without it, the result consists of blocks, and people and the model get their text.
Of other blocks, they get only the type: an image as text would be useless, and far too long.

Invariants: pure. Whatever a server answers, the outcome can be stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from statestream.chat.replies.tools import error_of, outcome_of
from statestream.chat.slices.conversation import ToolOutcome

if TYPE_CHECKING:
    from mcp.types import CallToolResult


def outcome(name: str, result: CallToolResult) -> ToolOutcome:
    """The outcome of a call of the tool with that name."""
    text = "\n".join(map(_text, result.content))
    if result.is_error:
        return error_of(text or f"{name} failed.")
    return outcome_of(name, text if result.structured_content is None else result.structured_content)


def _text(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    if block.type == "resource_link":
        return f"[{block.title or block.name}]({block.uri})"
    if block.type == "resource" and hasattr(block.resource, "text"):
        return str(block.resource.text)
    return f"[{block.type}]"
