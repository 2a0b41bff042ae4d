"""Outcomes as lines for a terminal, and as JSON.

Invariants: pure. One line for each check, and a second one with the sentence if the promise was broken. The sentence
may contain text of the server, so the caller makes a line safe before it is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from statestream.tools.conformance.checks import Outcome


def lines(outcome: Outcome) -> list[str]:
    word = "absent" if outcome.absent else "passed" if outcome.passed else "FAILED"
    note = "" if outcome.note is None else f" ({outcome.note})"
    text = f"{word}  {outcome.check.name:<22} {outcome.check.promise}{note}"
    return [text] if outcome.passed else [text, f"        {outcome.problem} [{outcome.check.section}]"]


def summary(outcomes: Sequence[Outcome]) -> str:
    checked = [outcome for outcome in outcomes if not outcome.absent]
    failed = [outcome.check.name for outcome in checked if not outcome.passed]
    kept = len(checked) - len(failed)
    return f"{kept} of {len(checked)} promises kept" + (f"; not kept: {', '.join(failed)}" if failed else "")


def as_json(url: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "url": url,
        "passed": all(outcome.passed for outcome in outcomes),
        "checks": [
            {
                "name": outcome.check.name,
                "section": outcome.check.section,
                "promise": outcome.check.promise,
                "passed": outcome.passed,
                "problem": outcome.problem,
                **({} if outcome.note is None else {"note": outcome.note}),
                **({"absent": True} if outcome.absent else {}),
            }
            for outcome in outcomes
        ],
    }
