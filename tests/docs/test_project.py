"""The project as others use it: its examples, the snippets of its pages, the wheel, the command."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

import aiohttp
import pytest
from packaging.requirements import Requirement

import statestream
from statestream.tools.conformance.clients.transcript import Transcript
from tests.support import ROOT, Server, dispatch
from tests.support.nursery import finished
from tests.support.usage import wrong_usage

PACKAGE = ROOT / "statestream"


def run(program: str, *arguments: str) -> str:
    ran = finished(*arguments, program=program)
    assert ran.code == 0, ran
    assert "Traceback" not in ran.err
    return ran.out + ran.err


def python(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_the_example_without_a_server_runs() -> None:
    assert run("examples/in_process.py").strip() == "value: 55 after 10 changes"


async def test_the_example_board_is_served_and_followed() -> None:
    with Server.serving(str(ROOT / "examples/board/app.py:store"), "memory:") as server:
        output = await asyncio.to_thread(run, "examples/follow.py", server.url)
    assert output.splitlines() == ["cards: []", "initial start", "value ", "cards: ['Written by follow.py']"]


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


DATA = {".txt", ".json"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    here = ("--no-index", "--no-deps", "--no-build-isolation")
    python("-m", "pip", "wheel", "--quiet", *here, "--wheel-dir", str(directory), str(ROOT))
    [wheel] = directory.glob("*.whl")
    return wheel


@pytest.mark.long
def test_a_wheel_has_what_it_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = ("journal/sqlite/schema.sql", "journal/redis/lua/append.lua", "browser/package.json")
    for name in ("py.typed", *data):
        assert f"statestream/{name}" in names
    assert {str(path.relative_to(ROOT)) for path in (PACKAGE / "journal").rglob("*.sql")} <= names
    assert {str(path.relative_to(ROOT)) for path in (PACKAGE / "browser").glob("*.*ts")} <= names
    assert {str(path.relative_to(ROOT)) for path in (PACKAGE / "browser").glob("*.js")} <= names
    for folder in ("inspector", "chat", "vendor"):
        files = {str(path.relative_to(ROOT)) for path in (PACKAGE / "browser" / folder).rglob("*.*")}
        assert len(files) > 15
        assert files <= names
    licences = [name for name in names if name.startswith("statestream/browser/vendor/") and name.endswith("LICENSE")]
    assert len(licences) == 2
    files = (PACKAGE / "tools/conformance").rglob("*.*")
    golden = {str(path.relative_to(ROOT)) for path in files if path.suffix in DATA}
    assert len([name for name in golden if name.endswith(".txt")]) == len(Transcript.all()) > 30
    assert golden <= names
    assert not any(name.startswith(("tests/", "docs/")) for name in names)


def needed(requirements: Iterable[str]) -> set[str]:
    """The distributions that are required without an extra, and those that they require."""
    found: set[str] = set()
    waiting = set(requirements)
    while waiting:
        parsed = map(Requirement, waiting)
        names = {each.name for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})} - found
        found |= names
        waiting = {line for name in names for line in distribution(name).requires or ()}
    return found


@pytest.mark.long
def test_the_wheel_works_without_any_extra(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, with what the core depends on, which is linked there, and nothing else."""
    python("-m", "venv", "--without-pip", str(tmp_path / "venv"))
    own = str(tmp_path / "venv/bin/python")
    [site] = (tmp_path / "venv").glob("lib/*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    [about] = site.glob("statestream-*.dist-info")
    for name in needed(Distribution.at(about).requires or ()):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution(name).locate_file(top))

    def there(*arguments: str) -> str:
        done = subprocess.run([own, "-I", *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
        return done.stdout + done.stderr

    assert there(str(ROOT / "examples/in_process.py")).strip() == "value: 55 after 10 changes"
    names = (
        "import statestream; print(statestream.__version__, all(map(statestream.__dict__.get, statestream.__all__)))"
    )
    assert there("-c", names).strip() == f"{statestream.__version__} True"
    assert "serve" in there("-m", "statestream", "--help")
    assert "FILE.py:NAME" in there("-m", "statestream", "serve", "nonsense")
    page = tmp_path / "conformance.py"
    page.write_text("\n".join(SNIPPET.findall((ROOT / "docs/conformance.md").read_text())))
    assert there(str(page)).split("\n")[-2] == "{0} of {0} transcripts passed".format(len(Transcript.all()))
    machine = "from statestream.testing import JournalContract, journal_machine; journal_machine(None, None)"
    assert there("-c", machine).endswith(
        "ImportError: hypothesis is not installed; "
        "it comes with the extra testing: pip install '.[testing]' in the checkout\n"
    )


def test_the_command_explains_itself() -> None:
    assert python("-m", "statestream", "--version").strip() == f"statestream {statestream.__version__}"
    assert "serve" in finished("--help").out
    wrong = finished("serve", "nonsense")
    assert (wrong.code, "FILE.py:NAME" in wrong.err) == (2, True)


def test_wrong_calls_of_serve_are_explained() -> None:
    assert "cannot find" in wrong_usage("serve", "no_such_module:store")
    assert "expected a Store" in wrong_usage("serve", "examples/board/app.py:board")
    names = (["--origin", "https://app.example.com"], ["--allowed-host", "live.example.org"])
    for option in (["--no-handoff"], ["--heartbeat", "5"], ["--max-subscribers", "5"], *names):
        refused = wrong_usage("serve", "examples/chat.py:app", *option)
        assert option[0] in refused
        assert "create_app" in refused
    for name, wrong in (("--origin", "*"), ("--origin", "app.example.com"), ("--allowed-host", "live.example.org:80")):
        assert name in wrong_usage("serve", "examples/board/app.py:store", name, wrong)
    for seconds in ("0", "nan", "inf", "soon"):
        assert "--heartbeat" in wrong_usage("serve", "examples/board/app.py:store", "--heartbeat", seconds)
    assert "journal URL" in wrong_usage("serve", "examples/board/app.py:store", "--journal", "x")
    assert "goes with a store" in wrong_usage("serve", "examples/chat.py:app", "--journal", "memory:")


def test_a_journal_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database " * 100)
    arguments = (
        "serve",
        "examples/board/app.py:store",
        "--journal",
        f"sqlite:///{tmp_path / 'notes.db'}",
        "--port",
        "0",
    )
    ran = finished(*arguments)
    assert (ran.code, "expected a statestream journal" in ran.err) == (1, True)
    assert "Traceback" not in ran.err


async def test_a_port_that_is_taken_is_explained() -> None:
    with Server.serving() as server:
        arguments = ("serve", "examples/board/app.py:store", "--journal", "memory:", "--port", str(server.port))
        ran = await asyncio.to_thread(finished, *arguments)
        assert (ran.code, "address already in use" in ran.err.lower()) == (1, True)
        async with aiohttp.ClientSession() as http:
            assert (await dispatch(http, server.url, "board/counted"))[0] == 200


IGNORING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
IN_A_TEST = """
import subprocess, sys, tests.conftest
program = "import signal; print(signal.getsignal(signal.SIGINT) == signal.default_int_handler)"
print(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout)
"""


def test_programs_can_be_interrupted_where_the_tests_are_a_background_job() -> None:
    """Shells, nohup and some runners start programs with SIGINT ignored, which child processes inherit."""
    command = [sys.executable, "-c", IGNORING, IN_A_TEST]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    assert done.stdout.strip() == "True"
