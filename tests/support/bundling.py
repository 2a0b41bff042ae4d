"""Pages and programs, bundled with the web client of this checkout: by esbuild, or by what a folder of packages has.

Invariants: what is bundled finds `statestream` as an installed package, and other packages in the folder that is named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.paths import NODE, ROOT

ESBUILD = NODE / "node_modules/.bin/esbuild"
CLIENT = ROOT / "statestream/browser"


def bundle(entry: Path, into: Path, packages: Path, *options: str) -> Path:
    """The bundle of a script, in the folder `into`. `packages` is a folder with node_modules."""
    linked = into / "node_modules"
    linked.mkdir(exist_ok=True)
    if not (linked / "statestream").exists():
        (linked / "statestream").symlink_to(CLIENT)
    path = os.pathsep.join((str(linked), str(packages / "node_modules")))
    name = f"{entry.stem}.cjs" if "--platform=node" in options else f"{entry.stem}.js"
    command = [str(ESBUILD), str(entry), "--bundle", f"--outfile={into / name}", "--jsx=automatic", *options]
    done = subprocess.run(
        [*command, "--log-level=warning"],
        env=os.environ | {"NODE_PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return into / name


def bundled_page(entry: Path, into: Path, packages: Path, *, production: bool = False) -> Path:
    """The folder `into`, with a page that runs the bundle."""
    mode = "production" if production else "development"
    bundle(entry, into, packages, "--format=esm", f'--define:process.env.NODE_ENV="{mode}"')
    write_page(into, entry.stem)
    return into


def write_page(into: Path, script: str, html: str = "", before: str = "") -> None:
    """The page: `html` is what a server has rendered, `before` a script that runs first."""
    (into / "index.html").write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><link rel=icon href=data:,><title>a page</title>"
        f"<div id=root>{html}</div><script>{before}</script><script type=module src=/dist/{script}.js></script></html>"
    )


def packages(folder: Path, *sources: Path) -> None:
    """Makes the packages of the sources, and the web client of this checkout, available in the folder."""
    into = folder / "node_modules"
    into.mkdir()
    shutil.copytree(CLIENT, into / "statestream", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for each in (path for source in sources for path in (source / "node_modules").glob("[!.@]*")):
        _link(each, into / each.name)
    for each in (path for source in sources for path in (source / "node_modules").glob("@*/*")):
        _link(each, into / each.parent.name / each.name)


def _link(package: Path, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    if not place.exists():
        place.symlink_to(package)
