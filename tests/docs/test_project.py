"""The project as a whole: layers, public names, examples, documentation, the command."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import aiohttp
import pytest

import statestream
from statestream.core import errors
from statestream.tools.conformance.transcripts import Transcript
from tests.support import ROOT, Server, dispatch

PACKAGE = ROOT / "statestream"

# What each package may import besides itself. The order is that of the story: an action comes in, a change goes out.
MAY_IMPORT = {
    "core": set(),
    "protocol": {"core"},
    "journal": {"core"},
    "store": {"core", "journal"},
    "broadcast": {"core", "protocol", "store"},
    "server": {"core", "protocol", "store", "broadcast"},
    "chat": {"core", "store", "broadcast", "server"},
    "client": {"core", "protocol"},
    "testing": {"core", "journal", "tools"},
    "browser": set(),
    "tools": {"core", "protocol", "journal", "store", "broadcast", "server", "chat", "client"},
}


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, those for type checkers included."""
    for node in ast.walk(ast.parse(path.read_text())):
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


def test_no_test_module_is_imported() -> None:
    """What test modules share is in tests/support or in a conftest.py, so that each can be read and moved alone."""
    for path in (ROOT / "tests").rglob("*.py"):
        if "node_modules" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.relative_to(ROOT)}: relative import"
                names = [f"{node.module}.{name}" for name in names]
            for name in names:
                imported = [part for part in name.split(".")[1:] if part.startswith("test_")]
                assert not (name.startswith("tests.") and imported), f"{path.relative_to(ROOT)} imports {name}"


def test_every_file_states_its_law() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = ast.get_docstring(ast.parse(path.read_text()))
        assert text, f"{path.relative_to(ROOT)} opens with what lives there"


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    tree = ast.get_docstring(ast.parse((PACKAGE / "errors.py").read_text()))
    drawn = set(re.findall(r"[├└]── (\w+)", tree or ""))
    classes = {kind.__name__ for kind in vars(errors).values() if isinstance(kind, type)}
    assert drawn == {name for name in classes if issubclass(getattr(errors, name), errors.StatestreamError)} - {
        "StatestreamError"
    }


def test_the_public_names_are_those() -> None:
    assert sorted(statestream.__all__) == sorted(set(statestream.__all__))
    public = {name for name in vars(statestream) if not name.startswith("_")}
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert public - modules == set(statestream.__all__) - modules
    assert len(statestream.__all__) <= 25


def run(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_the_example_without_a_server_runs() -> None:
    assert run("examples/in_process.py").strip() == "value: 55 after 10 changes"


async def test_the_example_board_is_served_and_followed() -> None:
    with Server.serving(str(ROOT / "examples/board.py:store")) as server:
        output = await asyncio.to_thread(run, "examples/follow.py", server.url)
    assert output.splitlines() == ["tasks: []", "initial start", "value ", "tasks: ['Written by follow.py']"]


async def test_the_example_chat_answers() -> None:
    with Server.serving(str(ROOT / "examples/chat.py:app"), env={"OPENAI_API_KEY": ""}) as server:
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{server.url}/api/chats") as response:
                chat = (await response.json())["id"]
            body = {"messages": [{"role": "user", "content": "hello"}]}
            async with http.post(f"{server.url}/api/chats/{chat}/stream", json=body) as response:
                assert "hello" in await response.text()


SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """The Python snippets of a page are one program, in order. Those that are files run in tests of their own."""
    snippets = [s for s in SNIPPET.findall(page.read_text()) if not s.startswith("# follow.py")]
    if not snippets:
        return
    program = tmp_path / "page.py"
    program.write_text("\n".join(snippets))
    run(str(program))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_command_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('No module named typer', name='typer')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from statestream.__main__ import main; main()"
    assert "the extra cli" in run("-c", script, code=1)


DATA = {".txt", ".json"}


@pytest.mark.slow
def test_a_wheel_has_what_it_needs(tmp_path: Path) -> None:
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT))
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("py.typed", "journal/schema.sql", "browser/statestream.js", "browser/demo.html"):
        assert f"statestream/{name}" in names
    golden = {str(path.relative_to(ROOT)) for path in (PACKAGE / "conformance").rglob("*.*") if path.suffix in DATA}
    assert len([name for name in golden if name.endswith(".txt")]) == len(Transcript.all()) > 30
    assert golden <= names
    assert not any(name.startswith(("tests/", "docs/")) for name in names)


@pytest.mark.slow
def test_the_wheel_works_without_any_extra(tmp_path: Path) -> None:
    """In an environment of its own, with what the core depends on and nothing else."""
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT))
    [wheel] = tmp_path.glob("*.whl")
    run("-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=100)

    def there(*arguments: str) -> str:
        done = subprocess.run([python, "-I", *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
        return done.stdout + done.stderr

    assert there(str(ROOT / "examples/in_process.py")).strip() == "value: 55 after 10 changes"
    names = (
        "import statestream; print(statestream.__version__, all(map(statestream.__dict__.get, statestream.__all__)))"
    )
    assert there("-c", names).strip() == f"{statestream.__version__} True"
    assert "the extra cli" in there("-m", "statestream", "--help")
    page = tmp_path / "conformance.py"
    page.write_text("\n".join(SNIPPET.findall((ROOT / "docs/conformance.md").read_text())))
    assert there(str(page)).split("\n")[-2] == "{0} of {0} transcripts passed".format(len(Transcript.all()))
    machine = "from statestream.testing import JournalContract, journal_machine; journal_machine(None, None)"
    assert there("-c", machine).endswith(
        "ImportError: expected hypothesis: install statestream with its extra testing\n"
    )


@pytest.mark.slow
def test_the_command_explains_itself() -> None:
    assert run("-m", "statestream", "--version").strip() == f"statestream {statestream.__version__}"
    assert "serve" in run("-m", "statestream", "--help")
    assert "FILE.py:NAME" in run("-m", "statestream", "serve", "nonsense", code=2)
    assert "cannot find" in run("-m", "statestream", "serve", "no_such_module:store", code=2)
    assert "expected a Store" in run("-m", "statestream", "serve", "examples/board.py:board", code=2)
    for option in (["--no-handoff"], ["--heartbeat", "5"], ["--max-subscribers", "5"]):
        refused = run("-m", "statestream", "serve", "examples/chat.py:app", *option, code=2)
        assert option[0] in refused
        assert "create_app" in refused
    for seconds in ("0", "nan", "inf", "soon"):
        assert "--heartbeat" in run(
            "-m", "statestream", "serve", "examples/board.py:store", "--heartbeat", seconds, code=2
        )
    assert "journal URL" in run("-m", "statestream", "serve", "examples/board.py:store", "--journal", "x", code=2)
    assert "goes with a store" in run(
        "-m", "statestream", "serve", "examples/chat.py:app", "--journal", "memory:", code=2
    )


def test_a_journal_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database " * 100)
    arguments = ("serve", "examples/board.py:store", "--journal", f"sqlite:///{tmp_path / 'notes.db'}", "--port", "0")
    assert "expected a statestream journal" in run("-m", "statestream", *arguments, code=1)


async def test_a_port_that_is_taken_is_explained() -> None:
    with Server.serving() as server:
        output = await asyncio.to_thread(
            lambda: run("-m", "statestream", "serve", "examples/board.py:store", "--port", str(server.port), code=1)
        )
        assert "address already in use" in output.lower()
        async with aiohttp.ClientSession() as http:
            assert (await dispatch(http, server.url, "board/counted"))[0] == 200
