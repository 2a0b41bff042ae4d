"""The site of the documentation: it is built without a warning, and the reference names what is public.

The build takes about two seconds, so it is a test like any other; without mkdocs it is skipped.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import statestream
from statestream import chat, client, journal
from statestream.chat import models
from statestream.core import errors
from tests.support import ROOT

DOCS = ROOT / "docs"
ERRORS = {
    name
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, statestream.StatestreamError)
}
TESTING = ("JournalContract", "journal_machine", "check_server", "check_client", "Outcome", "Check", "ClientState")
PUBLIC = {
    *(f"statestream.{name}" for name in set(statestream.__all__) - ERRORS),
    *(f"statestream.core.errors.{name}" for name in ERRORS),
    *(f"statestream.chat.{name}" for name in chat.__all__),
    *(
        f"statestream.chat.models.{name}"
        for name in ("Turn", "Finish", "Model", "ModelFailed", "default.default_model")
    ),
    *(f"statestream.client.{name}" for name in set(client.__all__) - set(statestream.__all__)),
    *(f"statestream.journal.{name}" for name in journal.__all__),
    *(f"statestream.testing.{name}" for name in TESTING),
    "statestream.core.names.escape_key",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        if importlib.util.find_spec(package.split(".")[0]) is None:
            pytest.skip(f"{package} is not installed: .ci/setup docs does that")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def ids(page: Path) -> set[str]:
    return set(re.findall(r' id="([^"]+)"', page.read_text(encoding="utf-8")))


def test_the_reference_says_how_values_are_made(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "reference/store.html").read_text(encoding="utf-8"))
    assert re.search(
        r"Action\(\s*\*,\s*type: str,\s*payload: Mapping\[str, Any\] = dict\(\),\s*key: str \| None = None,", text
    )
    assert re.search(r"Position\(\*, seq: int, tag: str\)", text)


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    described = {name for page in (site / "reference").glob("*.html") for name in ids(page)}
    assert not PUBLIC - described
    assert models.Turn.__module__ == "statestream.chat.models"


def test_what_the_reference_names_is_explained() -> None:
    """A name without a docstring is left out of its page without a word."""
    for module in (statestream, errors, chat, journal, models):
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and kind.__module__.startswith("statestream") and not name.startswith("_"):
                assert kind.__doc__, name
                assert not kind.__doc__.startswith("See the module"), name


def test_the_table_of_errors_is_true() -> None:
    text = (DOCS / "reference/errors.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \| (yes)? ?\|$", text, re.MULTILINE)
    said = {name: (code, int(status), bool(retryable)) for name, code, status, retryable in rows}
    kinds = {name: getattr(errors, name) for name in ERRORS}
    assert said == {name: (kind.code, kind.status, kind.retryable) for name, kind in kinds.items()}


def test_a_page_is_readable_from_the_disk_and_asks_for_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)\b[^>]*?(?:src|href)="([^"]+)"', page.read_text(encoding="utf-8"))
        for address in loaded:
            assert "://" not in address, f"{page.relative_to(site)} loads {address}"


def test_links_lead_to_pages_of_the_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        for address in re.findall(r'<a\b[^>]*? href="([^"#?]+)', page.read_text(encoding="utf-8")):
            if "://" in address or page.name == "404.html":
                continue
            assert (page.parent / address).exists(), f"{page.relative_to(site)} points to {address}"


def test_every_decision_is_listed() -> None:
    listed = re.findall(r"\(([0-9]{4}-[^)]+)\)", (DOCS / "decisions/index.md").read_text())
    assert sorted(path.name for path in (DOCS / "decisions").glob("0*.md")) == listed
