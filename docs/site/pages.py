"""Makes a site of what the repository has: README.md is its first page, and sources that pages point to are pages.

Pages are written for whoever reads them in the repository, where a link may lead to any file. Here links are turned
to what they lead to in the site: another page, or one made of a source's text or of a folder's list.

Law: no words of its own; what a page says stands in the repository.
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
LANGUAGES = {".py": "python", ".js": "javascript", ".html": "html", ".sql": "sql", ".json": "json"}
HIDDEN = "---\nsearch:\n  exclude: true\n---\n"


def on_files(files: Files, config: Any) -> Files:
    """Adds the first page, and a page for each file and folder that pages point to."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    outside = set()
    for page in files.documentation_pages():
        here = _place(page.src_uri)
        outside |= {target for target in _targets(here) if not target.startswith("docs/")}
    for target in sorted(outside):
        for uri, text in _pages_of(target):
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns links to where their targets are in the site."""
    del config
    if page.file.src_uri.startswith("source/"):
        return markdown

    def turned(match: re.Match[str]) -> str:
        if "://" in match[2]:
            return match[0]
        uri = _uri(posixpath.normpath(posixpath.join(posixpath.dirname(_place(page.file.src_uri)), match[2])))
        folder = posixpath.dirname(page.file.src_uri)
        return f"{match[1]}{posixpath.relpath(uri, folder or '.')}{match[3] or ''}{match[4]}"

    return LINK.sub(turned, markdown)


def _place(uri: str) -> str:
    """Where in the repository a page of the site stands."""
    return "README.md" if uri == "index.md" else f"docs/{uri}"


def _targets(place: str) -> set[str]:
    """What in the repository a page points to."""
    path = ROOT / place
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    links = (match[2] for match in LINK.finditer(text))
    folder = posixpath.dirname(place)
    return {posixpath.normpath(posixpath.join(folder, link)) for link in links if "://" not in link}


def _uri(place: str) -> str:
    """The page of the site that shows what stands there in the repository."""
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
    lines = [f"- [{file.name}]({file.name}.md): {_law(file)}" for file in within]
    folder = (_uri(place), f"{HIDDEN}# {place}\n\n" + "\n".join(lines) + "\n")
    return [folder, *((_uri(f"{place}/{file.name}"), _source(f"{place}/{file.name}")) for file in within)]


def _source(place: str) -> str:
    """A file's text. A Markdown file is shown as the page that it is."""
    path = ROOT / place
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return HIDDEN + text
    return f"{HIDDEN}# {place}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n````\n"


def _law(file: Path) -> str:
    """The first sentence of what a file says of itself."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].split("\n")[0]
