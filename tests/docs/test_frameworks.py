"""The files of the pages on React and on other frameworks, built and used as their readers would.

The recipes are built by one Vite, with the configuration of the page. The packages are in tests/node.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch
from tests.support.browser import Tab, text_is
from tests.support.bundling import bundle, packages, write_page
from tests.support.chats import ask, new_chat
from tests.support.node import Node
from tests.support.pages import files_of, write_files
from tests.support.paths import NODE
from tests.support.provider import open_gate, script
from tests.support.typed import free_port

pytestmark = pytest.mark.slow
BROWSER = ROOT / "statestream/browser"
RECIPES = NODE / "recipes"
LIVE = {"vue": "live", "svelte": "live", "dom": "live", "query": "success", "redux": "0"}
"""What the status of each recipe says at the beginning."""


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


ALL = """
import { mergeConfig } from "vite";
import ours from "./vite.config.js";
export default mergeConfig(ours, { build: { rolldownOptions: { input: [%s] } }, logLevel: "warn" });
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes, each with the page, built by Vite."""
    folder = write_files("howto/frameworks.md", tmp_path_factory.mktemp("frameworks"))
    packages(folder, RECIPES)
    page = (folder / "page.html").read_text()
    for name in LIVE:
        [entry] = (path.name for path in folder.glob(f"{name}.js*"))
        (folder / f"{name}.html").write_text(page.replace("./main.js", f"./{entry}"))
    (folder / "all.config.js").write_text(ALL % ", ".join(f'"{name}.html"' for name in LIVE))
    run("node", str(RECIPES / "node_modules/vite/bin/vite.js"), "build", "--config", "all.config.js", cwd=folder)
    return folder


@pytest.fixture
def board(built: Path, tmp_path: Path) -> Iterator[Server]:
    program = (
        built / f"{tmp_path.name}.py"
    )  # of its own: bytecode of another one of this second and size would be taken
    text = files_of("howto/frameworks.md")["live.py"]
    program.write_text(text.replace("sqlite:///", f"sqlite:///{tmp_path}/"))
    with Server("serve", f"{program}:app") as server:
        yield server


@pytest.mark.parametrize("name", LIVE)
async def test_a_recipe_shows_the_board_and_adds_a_task(
    browser: Node, board: Server, http: aiohttp.ClientSession, name: str
) -> None:
    tab = Tab(browser, name, f"{board.url}/{name}.html")
    tab.wait(f"({text_is('output', LIVE[name])}) || document.querySelector('output')?.value === '{LIVE[name]}'")
    tab.do("say", field="input", text="Ship it")
    tab.wait(text_is("ul", "Ship it"))
    tab.look("void (document.querySelector('li').kept = true)")
    await dispatch(http, board.url, "board/task_added", {"id": "2", "title": "Tell all"})
    tab.wait(text_is("ul", "Ship itTell all"))
    assert tab.look("document.querySelector('li').kept"), "an element that nothing happened to was drawn again"
    tab.wait("document.querySelector('input').value === ''")
    assert tab.close() == []


def test_the_quick_start_of_react_adds_a_task_in_two_windows(browser: Node, tmp_path: Path) -> None:
    write_files("web-client.md", tmp_path)
    (tmp_path / "main.tsx").write_text(files_of("react.md")["main.tsx"])
    bundle(tmp_path / "main.tsx", tmp_path, NODE / "web", "--format=esm")
    write_page(tmp_path, "main")
    program = tmp_path / "live.py"
    text = program.read_text().replace("sqlite:///", f"sqlite:///{tmp_path}/")
    program.write_text(f'{text}app.router.add_static("/dist", Path(__file__).parent)\n')
    with Server("serve", f"{program}:app") as server:
        tabs = [Tab(browser, name, server.url) for name in ("first", "second")]
        for tab in tabs:
            tab.wait(text_is("output", "live"))
        tabs[0].do("say", field="input", text="Ship it")
        for tab in tabs:
            tab.wait(text_is("ul", "Ship it"))
            assert tab.close() == []


CHAT = """
import { createRoot } from "react-dom/client";
import { StatestreamProvider } from "statestream/react";
import { Chat } from "./chat.tsx";
const id = location.hash.slice(1);
createRoot(document.getElementById("root")).render(<StatestreamProvider url="/"><Chat id={id} /></StatestreamProvider>);
"""


async def test_the_chat_of_the_page_on_react_asks_stops_and_asks_again(
    browser: Node, tmp_path: Path, upstream: str, http: aiohttp.ClientSession
) -> None:
    first = await script(http, upstream, "One?", {"say": "One."}, {"finish": "stop"})
    second = await script(http, upstream, "Two?", {"say": "So "}, {"wait": "docs"}, {"say": "far."}, {"finish": "stop"})
    (tmp_path / "chat.tsx").write_text(files_of("react.md")["chat.tsx"])
    (tmp_path / "main.jsx").write_text(CHAT)
    bundle(tmp_path / "main.jsx", tmp_path, NODE / "web", "--format=esm")
    write_page(tmp_path, "main")
    env = {"PAGES": str(tmp_path), "PYTHONPATH": str(ROOT), "UPSTREAM": f"{upstream}/v1"}
    with Server("serve", f"{ROOT / 'tests/apps/hooked.py'}:app", env=env) as server:
        chat = await new_chat(http, server)
        await ask(http, server, chat, first)
        tab = Tab(browser, "chat", f"{server.url}/#{chat}")
        tab.wait(text_is("ol", "One?One."))
        tab.do("say", field="input", text=second)
        tab.wait(text_is("ol", "One?One.Two?So "))
        tab.do("click", target="text=Stop")
        tab.wait("document.querySelector('li:last-child').className === 'stopped'")
        await open_gate(http, upstream, "docs")
        tab.do("click", target="text=Again")
        tab.wait(text_is("ol", "One?One.Two?So far."))
        assert tab.close() == []


def test_the_files_of_the_page_on_react_pass_the_compiler(tmp_path: Path) -> None:
    """`state.d.ts` is written as the page on types says. tests/clients/test_web_package.py checks the declarations."""
    (tmp_path / "app").mkdir()
    for name, text in files_of("react.md").items():
        (tmp_path / name).write_text(text)
    (tmp_path / "live.py").write_text(files_of("web-client.md")["live.py"].replace("sqlite:///board.db", "memory:"))
    run(sys.executable, "-m", "statestream", "types", "live.py:app", "-o", "state.d.ts", cwd=tmp_path)
    packages(tmp_path, NODE / "web", NODE / "next")
    config = (NODE / "web/app/tsconfig.json").read_text().replace('"types": []', '"types": ["node"]')
    (tmp_path / "tsconfig.json").write_text(config.replace('["src"]', '["*.ts", "*.tsx", "app"]'))
    tsc = str(NODE / "web/node_modules/typescript/bin/tsc")
    run("node", tsc, "--noEmit", "--preserveSymlinks", "--skipLibCheck", cwd=tmp_path)


LAYOUT = """
export default function Layout({ children }) {
  return <html lang="en"><head><link rel="icon" href="data:," /></head><body>{children}</body></html>;
}
"""
FASTER = """
import ours from "./next.config.mjs";
export default { ...ours, turbopack: { root: "/" }, typescript: { ignoreBuildErrors: true } };
"""
"""The packages are links to another folder. Another test runs the compiler."""


@contextmanager
def next_app(folder: Path, server: Server) -> Iterator[str]:
    """The URL of the page's application, which Next.js has built and serves."""
    site = folder / "site"
    (site / "app").mkdir(parents=True)
    (folder / "node_modules").symlink_to(NODE / "next/node_modules")
    for name in ("app/page.tsx", "app/board.tsx", "next.config.mjs"):
        (site / name).write_text(files_of("react.md")[name])
    (site / "app/layout.jsx").write_text(LAYOUT)
    (site / "next.config.mjs").rename(site / "ours.mjs")
    (site / "next.config.mjs").write_text(FASTER.replace("./next.config.mjs", "./ours.mjs"))
    shutil.copytree(BROWSER, site / "node_modules/statestream", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    program, port = str(NODE / "next/node_modules/next/dist/bin/next"), free_port()
    env = os.environ | {"STATESTREAM": server.url, "NEXT_TELEMETRY_DISABLED": "1"}
    run("node", program, "build", cwd=site, env=env)
    command = ["node", program, "start", "--port", str(port), "--hostname", "127.0.0.1"]
    serving = subprocess.Popen(command, cwd=site, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert serving.stdout
        assert next((line for line in serving.stdout if "Ready" in line), None), "it did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        serving.terminate()
        serving.communicate()


@pytest.mark.long
async def test_a_page_of_next_js_continues_after_what_its_server_has_rendered(
    browser: Node, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    program = write_files("web-client.md", tmp_path) / "live.py"
    program.write_text(program.read_text().replace("sqlite:///", f"sqlite:///{tmp_path}/"))
    with Server("serve", f"{program}:app") as server, next_app(tmp_path / "next", server) as url:
        await dispatch(http, server.url, "board/task_added", {"title": "<Ship it>"})
        async with http.get(url) as response:
            html = await response.text()
        assert "<output>connecting</output><ul><li>&lt;Ship it&gt;</li></ul>" in html
        tab = Tab(browser, "next", url)
        tab.wait(text_is("output", "live"))
        assert tab.look("document.querySelector('ul').textContent") == "<Ship it>"
        await dispatch(http, server.url, "board/task_added", {"title": "Tell all"})
        tab.wait(text_is("ul", "<Ship it>Tell all"))
        names = tab.look("seen.events.map((event) => event.name)")
        assert (names[0], "state.initial" in names, tab.look("seen.connections")) == ("state.resumed", False, 1)
        assert tab.close() == [], "a mismatch is an error"
