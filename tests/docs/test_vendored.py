"""The modules of others that the chat page uses: they are what their authors publish, and a page says which."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from tests.support.pages import DOCS
from tests.support.paths import NODE, ROOT

VENDOR = ROOT / "statestream/browser/vendor"
PACKAGES = {"marked": ("marked", "lib"), "highlight": ("@highlightjs/cdn-assets", "es")}
"""The package of each folder, and where in it the modules are."""


def source(folder: str, file: Path) -> Path:
    """The file in the package."""
    name, modules = PACKAGES[folder]
    package = NODE / "node_modules" / name
    if file.name == "LICENSE":
        return package / "LICENSE"
    within = package / modules
    return within / file.name if (within / file.name).exists() else within / "languages" / file.name


def test_each_folder_is_a_package() -> None:
    assert {path.name for path in VENDOR.iterdir()} == set(PACKAGES)


@pytest.mark.parametrize("folder", PACKAGES)
def test_the_files_are_those_of_the_package(folder: str) -> None:
    files = list((VENDOR / folder).iterdir())
    assert (VENDOR / folder / "LICENSE") in files
    for file in files:
        assert file.read_bytes() == source(folder, file).read_bytes(), file.name


@pytest.mark.parametrize("folder", PACKAGES)
def test_the_page_names_version_size_and_licence(folder: str) -> None:
    name, _ = PACKAGES[folder]
    about = json.loads((NODE / "node_modules" / name / "package.json").read_text())
    pinned = json.loads((NODE / "package.json").read_text())["dependencies"][name]
    [row] = re.findall(rf"^\| \[{re.escape(name)}\]\S+ \| (.+) \|$", (DOCS / "chat-page.md").read_text(), re.MULTILINE)
    version, _, size, licence = row.split(" | ")
    packed = sum(len(gzip.compress(file.read_bytes(), 9)) for file in (VENDOR / folder).glob("*.js"))
    assert version == about["version"] == pinned
    assert licence == about["license"]
    assert float(size.removesuffix(" kB")) == pytest.approx(packed / 1000, rel=0.05)  # versions of zlib differ


def test_every_language_that_the_page_knows_is_there_and_no_other() -> None:
    code = (ROOT / "statestream/browser/chat/code.js").read_text()
    [known] = re.findall(r"LANGUAGES = new Set\(\[(.*?)\]\)", code, re.DOTALL)
    files = {file.name.removesuffix(".min.js") for file in (VENDOR / "highlight").glob("*.min.js")}
    assert set(re.findall(r'"(\w+)"', known)) == files - {"core"}
