"""Builds the site from the repository: README.md is its first page, and a source that a page links to becomes a page.

Pages are written for readers of the repository, where a link can lead to any file. On the site, each link leads to
another page: to a page of the documentation, or to one that is made from a source or from the list of a folder.

Invariants: this file adds no text of its own. Everything that a page contains is in the repository.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)]*)?(\))")
LANGUAGES = {".py": "python", ".js": "javascript", ".html": "html", ".sql": "sql", ".json": "json", ".yaml": "yaml"}
HIDDEN = "---\nsearch:\n  exclude: true\n---\n"


def on_files(files: Files, config: Any) -> Files:
    """Adds the first page, and a page for each file and folder outside of docs that a page links to."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    unread = [_place(page.src_uri) for page in files.documentation_pages()]
    while unread:
        outside = {target for target in _targets(unread.pop()) if not target.startswith("docs/")}
        for target in sorted(outside):
            for uri, text in _pages_of(target):
                if files.get_file_from_path(uri) is None:
                    files.append(File.generated(config, uri, content=text))
                    unread += [target] if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrites links to the pages of their targets."""
    del config
    here = _place(page.file.src_uri)
    if not here.endswith(".md"):  # a source that is shown as code, or the list of a folder
        return markdown

    def rewritten(match: re.Match[str]) -> str:
        if "://" in match[2]:
            return match[0]
        uri = _uri(posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2])))
        folder = posixpath.dirname(page.file.src_uri)
        return f"{match[1]}{posixpath.relpath(uri, folder or '.')}{match[3] or ''}{match[4]}"

    return LINK.sub(rewritten, markdown)


def _place(uri: str) -> str:
    """The path in the repository of a page of the site."""
    if uri.startswith("source/"):
        return uri.removeprefix("source/").removesuffix(".md")
    return "README.md" if uri == "index.md" else f"docs/{uri}"


def _targets(place: str) -> set[str]:
    """The paths in the repository that a page links to."""
    path = ROOT / place
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    links = (match[2] for match in LINK.finditer(text))
    folder = posixpath.dirname(place)
    return {posixpath.normpath(posixpath.join(folder, link)) for link in links if "://" not in link}


def _uri(place: str) -> str:
    """The page of the site that shows a path of the repository."""
    if place == "README.md":
        return "index.md"
    if not place.startswith("docs/"):
        return f"source/{place}/index.md" if (ROOT / place).is_dir() else f"source/{place}.md"
    inside = place.removeprefix("docs/")
    return f"{inside}/index.md" if (ROOT / place).is_dir() else inside


def _pages_of(place: str) -> list[tuple[str, str]]:
    path = ROOT / place
    if not path.is_dir():
        return [(_uri(place), _source(place))]
    within = sorted(file for file in path.glob("*.py") if file.read_text(encoding="utf-8").strip())
    lines = [f"- [{file.name}]({file.name}.md): {_summary(file)}" for file in within]
    folder = (_uri(place), f"{HIDDEN}# {place}\n\n" + "\n".join(lines) + "\n")
    return [folder, *((_uri(f"{place}/{file.name}"), _source(f"{place}/{file.name}")) for file in within)]


def _source(place: str) -> str:
    """The page of a file: a Markdown file as it is rendered, any other file as code."""
    path = ROOT / place
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return HIDDEN + text
    return f"{HIDDEN}# {place}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n````\n"


def _summary(file: Path) -> str:
    """The first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].split("\n")[0]
