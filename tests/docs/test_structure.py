"""The project's own rules: the order of its packages, what every file begins with, what is public and why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import statestream
from statestream import asgi, auth, chat, client, journal, testing
from statestream.core import errors
from statestream.journal import redis
from tests.support import ROOT

PACKAGE = ROOT / "statestream"
FRAMEWORKS = {"pydantic_ai", "agents", "langgraph", "langchain_core"}
OPTIONAL = {"anthropic", "hypothesis", "mcp", "obstore", "openai", "opentelemetry", *FRAMEWORKS}
"""Packages of extras, which are imported when they are first used."""
SMALL = {"statestream.__main__"}

# What each package may import besides itself. The order is that of the story: an action comes in, a change goes out.
MAY_IMPORT = {
    "core": set(),
    "protocol": {"core"},
    "journal": {"core"},
    "store": {"core", "journal"},
    "broadcast": {"core", "protocol", "store"},
    "server": {"core", "protocol", "store", "broadcast", "browser"},
    "asgi": {"server"},
    "auth": {"core", "server"},
    "chat": {"core", "protocol", "store", "broadcast", "server"},
    "client": {"core", "protocol"},
    "testing": {"core", "journal", "tools"},
    "browser": set(),
    "tools": {"core", "protocol", "journal", "store", "broadcast", "server", "auth", "chat", "client", "browser"},
}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, those for type checkers included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("statestream.") for alias in node.names), f"{path}: from … import"
        if not isinstance(node, ast.ImportFrom) or not node.module or node.module.partition(".")[0] != "statestream":
            continue
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            yield name if name in MODULES else node.module


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in PACKAGE.rglob("*.py")}


def test_imports_run_downward_only() -> None:
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(MAY_IMPORT)
    for module, path in MODULES.items():
        own = module.split(".")[1:2]
        if not own or own[0].startswith("__"):
            continue
        for name in imports(path):
            if own[0] == "tools" and name == "statestream":
                continue  # a tool stands on the public names
            other = name.split(".")[1]
            assert other == own[0] or other in MAY_IMPORT[own[0]], f"{module} imports {name}"


def test_no_two_modules_import_each_other() -> None:
    """Also not by way of others, nor for type checkers only."""
    graph = {module: set(imports(path)) - {module, "statestream"} for module, path in MODULES.items()}
    for cycle in TopologicalSorter(graph).static_order():
        assert cycle in graph


MAY_IMPORT_TESTS = re.compile(r"^[ \t]*(?:from|import)[ \t]+(?:\.|tests\b[^\n(]*(?:\([^)]*)?\btest_)", re.MULTILINE)


def test_no_test_module_is_imported() -> None:
    """What test modules share is in tests/support or in a conftest.py, so that each can be read and moved alone."""
    folders = [each for each in (ROOT / "tests").iterdir() if each.is_dir() and each.name != "node"]  # packages of npm
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        if "node_modules" in path.parts or not MAY_IMPORT_TESTS.search(path.read_text()):
            continue  # most files: walking through all of them takes seconds
        for node in ast.walk(tree_of(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.relative_to(ROOT)}: relative import"
                names = [f"{node.module}.{name}" for name in names]
            for name in names:
                imported = [part for part in name.split(".")[1:] if part.startswith("test_")]
                assert not (name.startswith("tests.") and imported), f"{path.relative_to(ROOT)} imports {name}"


def test_every_file_states_its_invariants() -> None:
    """A file with code says first what must hold in it. One that only opens a package says what is in the package."""
    for module, path in MODULES.items():
        tree = tree_of(path)
        text = ast.get_docstring(tree)
        assert text, f"{module} has no docstring"
        if any(isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) for node in tree.body):
            assert "Invariants: " in text or path.name == "__init__.py" or module in SMALL, f"{module}: no invariants"


def test_a_package_lists_the_modules_that_it_has() -> None:
    """If the docstring of a package lists modules, with what is in each of them, it lists them all."""
    for path in PACKAGE.rglob("__init__.py"):
        doc = ast.get_docstring(ast.parse(path.read_text())) or ""
        lines = re.findall(r"^    (\w[\w, /]*?)(?: {2,}\S|$)", doc, flags=re.MULTILINE)
        listed = {name.strip(" /") for line in lines for name in line.split(",")}
        modules = {each.stem for each in path.parent.iterdir() if each.suffix == ".py" and each != path}
        modules |= {each.name for each in path.parent.iterdir() if (each / "__init__.py").exists()}
        data = {each.name for each in path.parent.iterdir() if each.is_dir()}
        if len(listed & modules) > 1:
            assert listed - data == modules - data, path.relative_to(ROOT)


def test_type_checkers_see_the_imports_that_python_sees() -> None:
    """TYPE_CHECKING hides circles, so it is for packages that may be missing only."""
    for module, path in MODULES.items():
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                named = {child.module for child in ast.walk(node) if isinstance(child, ast.ImportFrom)}
                assert {name.partition(".")[0] for name in named if name} <= OPTIONAL, f"{module}: {named}"


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    tree = ast.get_docstring(ast.parse((PACKAGE / "core/errors.py").read_text()))
    drawn = set(re.findall(r"[├└]── (\w+)", tree or ""))
    classes = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type)}
    assert drawn == {name for name in classes if issubclass(getattr(errors, name), errors.StatestreamError)} - {
        "StatestreamError"
    }


@pytest.mark.parametrize(
    "module", [statestream, asgi, auth, chat, client, journal, redis, testing], ids=lambda module: module.__name__
)
def test_the_reference_gives_the_reason_of_each_public_name(module: ModuleType) -> None:
    """What `__all__` lists is what the reference lists, each name in a table with the reason why it is public."""
    page = (ROOT / "docs/reference/index.md").read_text()
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    [table] = [part for part in section if part.startswith(f"{module.__name__}\n")]
    rows = [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| [`")]
    assert all(reason.strip() for _, reason in rows)
    listed = [name for names, _ in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(listed) == sorted(module.__all__)


def test_statestream_exports_nothing_else() -> None:
    public = {name for name in vars(statestream) if not name.startswith("_")}
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert public - modules == set(statestream.__all__)
