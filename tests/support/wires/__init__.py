"""The APIs that our provider speaks: how each one writes the steps of a script, and the rules that a request must keep.

A wire reads the conversation of a request as messages of chat completions, so that rules which all providers have need
not be written for each of them. Its own rules concern the request as it was sent.

Invariants: no code of the product is used here. What is written is what the provider's documentation shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

Step = dict[str, Any]
Write = Callable[[str], Awaitable[None]]


class Speaker(Protocol):
    """Writes one answer. `sent` is its content as the provider would keep it, once it has ended."""

    sent: list[Any]

    async def do_say(self, text: str) -> None: ...
    async def do_think(self, text: str) -> None: ...
    async def do_call(self, call: Any) -> None: ...
    async def do_decline(self, text: str) -> None: ...
    async def do_last(self, reason: str) -> None: ...
    async def do_finish(self, reason: str) -> None: ...
    async def do_fail(self, kind: str) -> None: ...
    async def do_end(self, end: Any) -> None: ...


class Wire(Protocol):
    """One API."""

    path: str

    def conversation(self, body: Any) -> list[Any]:
        """The conversation, as messages of chat completions."""

    def violation(self, body: Any, headers: Mapping[str, str]) -> str | None:
        """The first rule of this API that a request breaks, or None."""

    def lost(self, body: Any, sent: Callable[[int], list[Any] | None]) -> str | None:
        """What does not come back as it was sent. `sent` has the content of an answer, by its place among all."""

    def problem(self, message: str) -> Any:
        """The body of a refusal with 400."""

    def speaker(self, write: Write, steps: list[Step]) -> Speaker: ...
