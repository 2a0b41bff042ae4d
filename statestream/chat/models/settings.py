"""The settings of requests to a model: instructions, how it answers, and headers.

A chat has settings. A question that a program asks can have its own settings, which take precedence:

    chat = Chat(settings=ModelSettings(instructions="You are brief.", temperature=0.2))
    await chat.conversations(store).ask(key, Question.text("Why?", settings=ModelSettings(effort="high")))

Invariants: plain data, checked on creation. Nothing that a client sends becomes a setting.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from msgspec import Struct

from statestream.chat.models.output import output_of

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_VALUE: Final = re.compile(r"[\x20-\x7e]*", re.ASCII)


class ModelSettings(Struct, frozen=True, kw_only=True):
    """What a model receives besides the conversation. The provider decides everything that is None.

    `instructions` are the system prompt. `max_tokens` limits an answer, including the model's reasoning. `effort` is
    how much the model reasons, in the provider's terms, such as `low` or `high`; most providers also accept `none`.
    `headers` are added to the HTTP request. `output` is the type of answers: the model is asked for JSON that fits it,
    and the answer is checked when it is complete. Raises TypeError and ValueError for settings that cannot be.
    """

    instructions: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    effort: str | None = None
    headers: Mapping[str, str] = {}
    output: Any = None

    def __post_init__(self) -> None:
        for name in ("instructions", "effort"):
            _check(name, getattr(self, name), str, "text")
        _check("temperature", self.temperature, (int, float), "a number")
        _check("max_tokens", self.max_tokens, int, "a whole number")
        if self.temperature is not None and not (isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"expected `temperature` to be 0 or more, got {self.temperature}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"expected `max_tokens` to be 1 or more, got {self.max_tokens}")
        if self.output is not None:
            output_of(self.output)
        _check("headers", self.headers, Mapping, "a mapping of names to values")
        for name, value in self.headers.items():
            _check_header(name, value)

    def __or__(self, other: ModelSettings) -> ModelSettings:
        """Both combined. The settings in `other` take precedence; headers are merged."""
        if not isinstance(other, ModelSettings):
            return NotImplemented
        replaced = {name.lower() for name in other.headers}
        kept = {name: value for name, value in self.headers.items() if name.lower() not in replaced}
        return ModelSettings(
            instructions=_first(other.instructions, self.instructions),
            temperature=_first(other.temperature, self.temperature),
            max_tokens=_first(other.max_tokens, self.max_tokens),
            effort=_first(other.effort, self.effort),
            headers={**kept, **other.headers},
            output=_first(other.output, self.output),
        )


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _check(name: str, value: Any, kind: Any, described: str) -> None:
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise TypeError(f"expected `{name}` to be {described}, got {type(value).__name__}")


def _check_header(name: Any, value: Any) -> None:
    """Raises TypeError and ValueError. Values are often secret, so no message contains them."""
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(f"expected `headers` to contain strings, got {type(name).__name__}: {type(value).__name__}")
    if not _NAME.fullmatch(name):
        raise ValueError("expected the name of a header to consist of letters, digits and hyphens")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"expected the header {name} to have a value of printable ASCII characters")
