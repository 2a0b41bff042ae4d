"""The protocol's page is a specification: its rules are numbered, and each test of conformance names its rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

import statestream.chat.models
import statestream.journal.contract  # noqa: F401  # whose errors are in no other module's tree
from statestream.core.errors import StatestreamError
from statestream.tools.conformance import CHECKS
from statestream.tools.conformance.clients.transcript import Transcript
from tests.support import ROOT
from tests.support.pages import DOCS

RULE = re.compile(r"^\*\*(\d+)\.(\d+)\*\* ", re.MULTILINE)
CITED = re.compile(r"(?<![\w.])\d+\.\d+(?!\w)")
ROW = re.compile(r"^\| `([\w-]+)` \|.*\| ([\d., ]+) \|$", re.MULTILINE)
UNCHECKED = re.compile(r"^\| ([\d., ]+) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)
PLACE = re.compile(r"`(tests/[a-z0-9_/]+\.py)(?:::([a-z0-9_]+))?`")
KEYWORD = re.compile(r"\b(?:MUST|SHOULD|MAY)\b")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rules() -> list[tuple[int, int]]:
    return [(int(section), int(number)) for section, number in RULE.findall(page("protocol.md"))]


def test_rules_are_numbered_in_order_within_their_sections() -> None:
    sections = re.split(r"^## (\d+)\. ", page("protocol.md"), flags=re.MULTILINE)[1:]
    for number, text in zip(sections[::2], sections[1::2], strict=True):
        found = RULE.findall(text)
        assert found == [(number, str(n)) for n in range(1, len(found) + 1)]
        assert found, f"section {number} has no rule"


def test_requirements_have_a_number() -> None:
    """What stands before a section's first rule, and what is a note, requires nothing."""
    for paragraph in page("protocol.md").split("\n\n"):
        if paragraph.startswith("Note: ") or not KEYWORD.search(paragraph):
            continue
        assert RULE.match(paragraph) or paragraph.startswith("|"), paragraph


def test_rules_that_are_cited_exist() -> None:
    known = {f"{section}.{number}" for section, number in rules()}
    prose = re.sub(r"^```.*?^```|`[^`]*`", "", page("protocol.md"), flags=re.DOTALL | re.MULTILINE)
    cited = set(CITED.findall(prose.replace("9.2.6", "").replace("HTTP/1.0", "")))
    assert cited <= known, cited - known


CODE = re.compile(r"^\| (\d{3}) \| `(\w+)` \|", re.MULTILINE)
NEVER_ANSWERED = {"timed_out", "recording_failed", "model_failed"}
"""The codes of errors that only a client raises, or that become a part of a reply."""


def kinds(kind: type[StatestreamError] = StatestreamError) -> Iterator[type[StatestreamError]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)


def test_the_codes_of_the_page_are_those_that_the_server_answers() -> None:
    """The codes of the errors that the server raises, and those that the answers of HTTP have."""
    own = {(kind.status, kind.code) for kind in kinds() if kind.__module__.startswith("statestream.")}
    raised = {pair for pair in own if pair[1] not in {StatestreamError.code, *NEVER_ANSWERED}}
    http = {(status.value, status.phrase.lower().replace(" ", "_")) for status in (HTTPStatus(404), HTTPStatus(405))}
    written = {(int(status), code) for status, code in CODE.findall(page("protocol.md"))}
    assert written == raised | http | {(500, "internal")}


def test_every_check_and_every_transcript_names_its_rules() -> None:
    known = {f"{section}.{number}" for section, number in rules()}
    rows = ROW.findall(page("conformance.md"))
    tested = [check.name for check in CHECKS] + [one.name for one in Transcript.all()]
    assert sorted(name for name, _ in rows) == sorted(tested)
    for name, cited in rows:
        assert set(cited.split(", ")) <= known, name


def unchecked() -> list[tuple[str, str, str]]:
    """The rules without a check: their numbers, why, and the tests of our own."""
    table = page("conformance.md").partition("## Rules without a check")[2]
    return UNCHECKED.findall(table)


def test_every_rule_has_a_check_or_the_page_says_why_not() -> None:
    own = {
        number
        for rule in re.findall(r"the rules ((?:\d+\.\d+|, | to |and )+)", page("conformance.md"))
        for number in in_words(rule)
    }
    cited = {number for _, numbers in ROW.findall(page("conformance.md")) for number in numbers.split(", ")} | own
    without = [number for numbers, _, _ in unchecked() for number in numbers.split(", ")]
    assert len(without) == len(set(without))
    assert cited.isdisjoint(without), "a rule with a check is in the table of those without"
    assert {f"{section}.{number}" for section, number in rules()} == cited | set(without)


def in_words(text: str) -> set[str]:
    """The rules of a sentence such as `the rules 5.1 to 5.5, 5.8 and 6.2`."""
    found = set(re.findall(r"\d+\.\d+", text))
    for section, first, last in re.findall(r"(\d+)\.(\d+) to \1\.(\d+)", text):
        found |= {f"{section}.{number}" for number in range(int(first), int(last) + 1)}
    return found


def test_tests_that_stand_for_a_check_exist() -> None:
    places = [place for _, _, tests in unchecked() for place in PLACE.findall(tests)]
    assert len(places) > 10
    for path, name in places:
        assert not name or re.search(rf"^(?:async )?def {name}\(", (ROOT / path).read_text(), flags=re.MULTILINE), name
        assert (ROOT / path).exists()
