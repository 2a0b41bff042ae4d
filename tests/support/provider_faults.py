"""The faults of a provider: for each one its steps, the kind of error that it causes, and the text that is kept."""

from __future__ import annotations

from typing import Any

SAID = "sk-canary-said-by-the-provider"
NO_RETRY = {"x-should-retry": "false"}


def refusal(status: int, **headers: str) -> Any:
    body = {"error": {"message": f"Incorrect key: {SAID}", "type": "x", "code": SAID}}
    return {"refuse": {"status": status, "body": body, "headers": {**NO_RETRY, **headers}}}


WORDS = ({"say": "So far, "}, {"say": "so good."})
KEPT = "So far, so good."
DECLINED = "I would rather not."
FAULTS: dict[str, tuple[list[Any], str, str]] = {
    "an error in the stream": ([*WORDS, {"fail": "failed"}], "failed", KEPT),
    "an error in the stream before a word": ([{"fail": "failed"}], "failed", ""),
    "a limit in the stream": ([*WORDS, {"fail": "rate_limited"}], "rate_limited", KEPT),
    "a lost connection": ([*WORDS, {"cut": True}], "connection", KEPT),
    "a lost connection before a word": ([{"cut": True}], "connection", ""),
    "an end without a reason": ([*WORDS], "truncated", KEPT),
    "an end with DONE and no reason": ([*WORDS, {"raw": "data: [DONE]\n\n"}], "truncated", KEPT),
    "an empty stream": ([], "truncated", ""),
    "nothing but DONE": ([{"raw": "data: [DONE]\n\n"}], "truncated", ""),
    "broken JSON": ([*WORDS, {"raw": f'data: {{"choices": [{SAID}\n\n'}], "failed", KEPT),
    "a bad request": ([refusal(400)], "bad_request", ""),
    "a wrong key": ([refusal(401)], "unauthenticated", ""),
    "a forbidden key": ([refusal(403)], "forbidden", ""),
    "an unknown model": ([refusal(404)], "unknown_model", ""),
    "a request that is too large": ([refusal(413)], "bad_request", ""),
    "too many requests": ([refusal(429)], "rate_limited", ""),
    "too many requests, also when tried again": (
        [refusal(429, **{"x-should-retry": "true", "retry-after-ms": "10"})],
        "rate_limited",
        "",
    ),
    "an error of the provider": ([refusal(500)], "failed", ""),
    "a provider that is overloaded": ([refusal(529)], "failed", ""),
    "an event that is called error": (
        [*WORDS, {"raw": f'event: error\ndata: {{"message": "{SAID}"}}\n\n'}, {"finish": "stop"}],
        "failed",
        KEPT,
    ),
    "an error that is no JSON": ([*WORDS, {"raw": f"event: error\ndata: {SAID}\n\n"}], "failed", KEPT),
    "a refusal": ([{"decline": "I would "}, {"decline": "rather not."}, {"finish": "stop"}], "refused", DECLINED),
    "an end without a word": ([{"finish": "stop"}], "empty", ""),
    "a page instead of a stream": ([{"raw": f"<html>{SAID}</html>"}], "truncated", ""),
    "an event without an end": ([*WORDS, {"flood": {"text": f"data: {'x' * 100}\n", "times": 50_000}}], "failed", KEPT),
    "arrays without an end": ([*WORDS, {"raw": "data: " + "[" * 200_000 + "\n\n"}], "failed", KEPT),
    "an event that is a list": ([*WORDS, {"raw": 'data: [{"choices": []}]\n\n'}, {"finish": "stop"}], "failed", KEPT),
}
"""Those that every API can have."""
ODD_FAULTS: dict[str, tuple[list[Any], str, str]] = {
    "an error without a number": ([*WORDS, {"chunk": {"error": {"message": SAID, "code": SAID}}}], "failed", KEPT),
    "an error that is a string": ([*WORDS, {"chunk": {"error": SAID}}], "failed", KEPT),
}
"""Those of chat completions, as compatible providers make them."""
