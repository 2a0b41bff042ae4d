"""How a model fails: kinds of errors with a sentence for each, and what the exceptions of a provider's package mean.

The packages of OpenAI and Anthropic are made from one template: their exceptions have the same names and members.

Invariants: kinds are stable. The provider's own messages may contain keys or prompts, so none of them is in a sentence.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

from statestream.chat.models import ModelFailed, Turn
from statestream.chat.models.settings import ModelSettings

SENTENCES: Final = {
    400: ("bad_request", "The model could not process this conversation."),
    401: ("unauthenticated", "The model's key is missing or wrong."),
    403: ("forbidden", "The model's key does not allow this."),
    404: ("unknown_model", "The provider does not have this model."),
    413: ("bad_request", "The conversation is too large for the model."),
    429: ("rate_limited", "The model receives too many requests. Try again in a while."),
    503: ("failed", "The model is overloaded. Try again in a while."),
    529: ("failed", "The model is overloaded. Try again in a while."),
}
OTHERWISE: Final = ("failed", "The model failed. Try again.")
"""For a status that SENTENCES does not have."""
BROKEN_OFF: Final = ("failed", "The model stopped with an error.")
LATE: Final = ("timeout", "The model did not answer in time.")
CUT_OFF: Final = ("connection", "The connection to the model was lost.")
TOO_MUCH: Final = ("failed", "The model sent more at once than can be read.")
TOO_LONG: Final = ("too_long", "The reply is too long.")
USED_UP: Final = "insufficient_quota"
"""The code of an error that does not pass, although its status is 429: the account has no credit."""
MAX_RETRY_AFTER: Final = 3_600
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


def failure_of(error: Exception) -> ModelFailed:
    """The failure that an exception of the package or its transport means, with a sentence for people.

    While bytes are read, the package lets the exceptions of its transport through, so they can be of any type.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "APIStatusError" in kinds:
        return _of_response(error)
    if "APITimeoutError" in kinds or "Timeout" in type(error).__name__:
        return ModelFailed(*LATE)
    if kinds & {"OpenAIError", "AnthropicError"} and "APIConnectionError" not in kinds:
        return ModelFailed(*BROKEN_OFF)
    return ModelFailed(*CUT_OFF)


def _of_response(error: Any) -> ModelFailed:
    headers = error.response.headers
    kind, sentence = SENTENCES.get(error.status_code, OTHERWISE)
    when = _when(headers.get("Retry-After")) if error.status_code == 429 else None
    told = {"true": True, "false": False}.get(headers.get("x-should-retry", ""))
    return ModelFailed(
        kind,
        sentence.replace("in a while", when) if when else sentence,
        temporary=_passes(error.status_code) and not rejected_as(error, USED_UP) if told is None else told,
        wait=_wait(headers),
    )


def failure_in_stream(status: int | None, code: str = "") -> ModelFailed:
    """The failure that an error in the stream means, as if the response had had this status.

    `code` is that of the provider.
    """
    known = SENTENCES.get(status) if status is not None else None
    passes = known is not None and code != USED_UP and _passes(status or 0)
    return ModelFailed(*(known or BROKEN_OFF), temporary=passes)


def _passes(status: int) -> bool:
    """Whether the same request may succeed soon."""
    return status in (408, 409, 429) or status >= 500


def _wait(headers: Mapping[str, str]) -> float | None:
    """The seconds after which a provider wants to be asked again; None if it says nothing that makes sense."""
    for name, second in (("Retry-After-Ms", 1_000), ("Retry-After", 1)):
        value = headers.get(name)
        if value is not None and _NUMBER.fullmatch(value):
            return float(value) / second
    try:
        until = parsedate_to_datetime(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return max(0.0, until.timestamp() - time.time())


def _when(header: str | None) -> str | None:
    """`Retry-After` in words, if it is a time for which a person might wait."""
    if header is None or not _SECONDS.fullmatch(header) or not 0 < int(header) <= MAX_RETRY_AFTER:
        return None
    seconds = int(header)
    number, unit = (seconds, "second") if seconds < 120 else (-(-seconds // 60), "minute")
    return f"in {number} {unit}{'' if number == 1 else 's'}"


def rejected_as(error: Any, code: str) -> bool:
    """Whether the body of an error has this code."""
    body = getattr(error, "body", None)
    inner = body["error"] if type(body) is dict and type(body.get("error")) is dict else body
    return type(inner) is dict and inner.get("code") == code


NO_DOCUMENTS: Final = ("file", "document", "content type", "content part", "content.type", "base64")
"""What the errors of providers say that take no PDFs."""


def rejects(error: Exception, *words: str) -> bool:
    """Whether the provider has rejected the request with one of these words, such as the name of a member."""
    refused = getattr(error, "status_code", None) in (400, 422)
    return refused and any(word in str(getattr(error, "body", "")) for word in words)


def rejects_documents(error: Exception, turns: Sequence[Turn]) -> bool:
    """Whether the provider has rejected a request because of the PDFs in it."""
    return any(turn.documents for turn in turns) and rejects(error, *NO_DOCUMENTS)


def rejected_setting(
    error: Exception, settings: ModelSettings, names: Mapping[str, tuple[str, ...]]
) -> ModelFailed | None:
    """The failure if the provider rejects one of the settings; None otherwise.

    `names` has the words that the provider's errors use for each setting.
    """
    if getattr(error, "status_code", None) not in (400, 422):
        return None
    told = _about(getattr(error, "body", None)).lower()
    for name, words in names.items():
        if getattr(settings, name) is not None and any(word in told for word in words):
            return ModelFailed("bad_request", f"The provider rejects the setting {name} for this model.")
    return None


def _about(body: Any) -> str:
    """The member of the request that an error is about; all of the error if no member of the error says so.

    The message of the error may repeat what people have written.
    """
    error = body["error"] if type(body) is dict and type(body.get("error")) is dict else body
    about = error.get("param") if type(error) is dict else None
    return about if type(about) is str and about else str(body)
