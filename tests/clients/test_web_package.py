"""The web client as a package: what `npm pack` makes of it, in TypeScript, in an application that Vite builds, in Node.

The application is that of tests/node/web/app. It installs the tarball; React, Vite and TypeScript are found in the
folder above it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import statestream
from tests.support import BOARD, ROOT, Server, dispatch
from tests.support.browser import Tab, is_of_the_cut
from tests.support.node import Node
from tests.support.paths import NODE

CLIENT = ROOT / "statestream/browser"
WEB = NODE / "web"
PAGE = ROOT / "docs/web-client.md"
LIMIT = 12_000
"""The bytes that the whole client may have in a page, after a bundler and gzip."""
HOOKS_LIMIT = 3_000
"""The bytes that the hooks may add to a page that has the client."""
pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    run("npm", "pack", "--silent", "--pack-destination", str(folder), str(CLIENT), cwd=folder)
    [path] = folder.glob("*.tgz")
    return path


@pytest.fixture(scope="module")
def app(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The application, with the tarball installed and nothing built yet."""
    folder = tmp_path_factory.mktemp("web")
    shutil.copytree(WEB / "app", folder / "app")
    install = ("npm", "install", "--offline", "--no-audit", "--no-fund", "--no-package-lock", "--silent", str(tarball))
    run(*install, cwd=folder / "app")
    (folder / "node_modules").symlink_to(WEB / "node_modules")
    return folder / "app"


@pytest.fixture(scope="module")
def built(app: Path) -> Path:
    run("node", str(WEB / "node_modules/vite/bin/vite.js"), "build", cwd=app)
    return app / "dist"


def test_the_tarball_has_the_client_and_nothing_else(tarball: Path) -> None:
    with tarfile.open(tarball) as archive:
        names = set(archive.getnames())
        licence = archive.extractfile("package/LICENSE")
        assert licence is not None
        assert licence.read() == (ROOT / "LICENSE").read_bytes()
    modules = {path.name for path in (*CLIENT.glob("*.js"), *CLIENT.glob("*.ts"))}
    assert names == {f"package/{name}" for name in {*modules, "package.json", "LICENSE"}}
    about = json.loads((CLIENT / "package.json").read_text())
    assert about["version"] == statestream.__version__
    assert "dependencies" not in about


def test_strict_typescript_accepts_what_is_right_and_nothing_else(app: Path) -> None:
    run("node", str(WEB / "node_modules/typescript/bin/tsc"), "--noEmit", cwd=app)


EXPORTED = {
    "statestream": {"connect", "ticket", "StatestreamError"},
    "statestream/react": {
        *("StatestreamProvider", "useSlice", "useDispatch", "useHealth", "useChat", "useMessage", "usePresence"),
        *("createHooks", "areShallowEqual"),
    },
    "statestream/tools": {"runTools"},
    "statestream/react-tools": {"useTools"},
}


@pytest.mark.parametrize("module", EXPORTED)
def test_the_types_declare_what_the_module_exports(app: Path, module: str) -> None:
    types = (CLIENT / f"{module.rpartition('/')[2].replace('-', '_')}.d.ts").read_text()
    declared = set(re.findall(r"^export (?:function|class) (\w+)", types, re.MULTILINE))
    script = f"import('{module}').then((all) => console.log(Object.keys(all).join(' ')))"
    assert set(run("node", "-e", script, cwd=app).split()) == declared == EXPORTED[module]


SERVED = """
from pathlib import Path
from aiohttp import web
from statestream import Store, create_app
from tests.apps.board import board, counter, room

async def index(request):
    return web.FileResponse(Path({dist!r}) / "index.html")

app = create_app(Store([board, counter, room], journal="sqlite:///{journal}"))
app.router.add_get("/", index)
app.router.add_static("/assets", Path({dist!r}) / "assets")
"""


@pytest.fixture
def server(built: Path, tmp_path: Path) -> Iterator[Server]:
    """The built application, on a server with the slices that it shows."""
    program = tmp_path / "app.py"
    program.write_text(SERVED.format(dist=str(built), journal=tmp_path / "board.db"))
    with Server("serve", f"{program}:app", env={"PYTHONPATH": str(ROOT)}) as running:
        yield running


async def test_a_react_application_follows_dispatches_and_resumes(
    browser: Node, server: Server, http: aiohttp.ClientSession
) -> None:
    tab = Tab(browser, "react", server.url)
    tab.wait("document.querySelector('output')?.textContent === 'live'")
    tab.do("say", field="input", text="Ship it")
    tab.wait("document.querySelector('li')?.textContent === 'Ship it'")
    await dispatch(http, server.url, "board/task_added", {"id": "2", "title": "Tell all"})
    tab.wait("document.querySelectorAll('li').length === 2")
    assert tab.do("problems") == []
    server.kill()
    server.start()
    await dispatch(http, server.url, "board/task_added", {"id": "3", "title": "Rest"})
    tab.wait("document.querySelectorAll('li').length === 3")
    names = tab.look("seen.events.map((event) => event.name)")
    assert (names.count("state.initial"), names.count("state.resumed")) == (1, 1)
    tab.do("say", field="input", text="Ship it")  # the id is taken
    assert all(is_of_the_cut(problem) or "409" in problem for problem in tab.close())


PROGRAM = """
import { connect } from "statestream";
const client = connect(process.argv[1], { slices: ["board", "room/*"] });
await client.ready;
await client.dispatch("board/task_added", { id: "1", title: "Ship it" });
await client.dispatch("room/joined", { name: "Ada" }, { key: "42" });
await new Promise((resolve) => client.select((state) => state["room/42"]?.members, (members) => members && resolve()));
console.log(JSON.stringify({ state: client.state, health: client.health }));
client.close();
"""


def test_a_program_in_node_follows_and_dispatches(app: Path) -> None:
    with Server.serving(BOARD) as server:
        said: Any = json.loads(run("node", "--input-type=module", "-e", PROGRAM, server.url, cwd=app))
    assert said["state"]["board"]["tasks"] == [{"id": "1", "title": "Ship it", "done": False}]
    assert said["state"]["room/42"]["members"] == ["Ada"]
    assert said["health"] == {"level": "healthy", "phase": "live", "error": None}


def minified(*entry: str, code: str | None = None) -> int:
    """The bytes of an entry, or of that code, after esbuild and gzip."""
    command = [str(NODE / "node_modules/.bin/esbuild"), *entry, "--minify", "--format=esm"]
    done = subprocess.run(command, cwd=CLIENT, input=code, capture_output=True, text=True, timeout=120, check=True)
    return len(gzip.compress(done.stdout.encode(), mtime=0))


def added(*names: str, module: str = "react.js", to: tuple[str, ...] = ("statestream.js",)) -> int:
    """The bytes that these names of a module, or all of them, add to a page that has the others."""
    before = " ".join(f'export * from "./{each}";' for each in to)
    more = f'export {{ {", ".join(names)} }} from "./{module}"' if names else f'export * from "./{module}"'
    bundle = ("--bundle", "--external:react")
    return minified(*bundle, code=before + more) - minified(*bundle, code=before)


def test_the_client_is_small() -> None:
    assert minified("statestream.js", "--bundle") <= LIMIT


def test_the_hooks_are_small_and_the_page_says_how_small() -> None:
    everything, slices = added(), added("StatestreamProvider", "useSlice", "useDispatch", "useHealth")
    assert everything <= HOOKS_LIMIT
    [said, less] = re.findall(r"\*\*([\d.]+) kB\*\*", (ROOT / "docs/react.md").read_text())
    assert everything == pytest.approx(float(said) * 1000, 0.1)
    assert slices == pytest.approx(float(less) * 1000, 0.1)


def test_the_page_on_tools_says_what_they_add() -> None:
    [plain, hook] = re.findall(r"\*\*([\d.]+) kB\*\*", (ROOT / "docs/frontend-tools.md").read_text())
    assert added(module="tools.js") == pytest.approx(float(plain) * 1000, 0.1)
    both = ("statestream.js", "react.js")
    assert added(module="react_tools.js", to=both) == pytest.approx(float(hook) * 1000, 0.1)


def test_the_page_says_how_large_each_module_is() -> None:
    """To a tenth of a kilobyte, or ten per cent."""
    rows = re.findall(r"^\| `(\w+\.js)` \|[^|]*\| ([\d.]+) kB \| ([\d.]+) kB \|$", PAGE.read_text(), re.MULTILINE)
    said = {name: (float(plain), float(small)) for name, plain, small in rows}
    real = {path.name: (path.stat().st_size, minified(path.name)) for path in CLIENT.glob("*.js")}
    assert said.keys() == real.keys()
    near = {name: pytest.approx([kB * 1000 for kB in sizes], 0.1, 60) for name, sizes in said.items()}
    wrong = {name: sizes for name, sizes in real.items() if sizes != near[name]}
    assert wrong == {}
    [whole] = re.findall(r"\*\*([\d.]+) kB\*\*", PAGE.read_text())
    assert minified("statestream.js", "--bundle") == pytest.approx(float(whole) * 1000, 0.1)
