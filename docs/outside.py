"""What the site shows of the repository's files outside ``docs/``: hooks of MkDocs.

A page may link to any file of the repository, as GitHub shows it. On the site the pages of the
repository's root are pages too, and any other file is a page that shows its text.

The source's own texts, in the reference, name things by roles of Sphinx, which are taken away.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
#: The root's pages, by their place on the site. The README is the site's first page in other words.
ROOT_PAGES = {"SECURITY.md": "security.md", "CONTRIBUTING.md": "contributing.md"}
PLACES = {**ROOT_PAGES, "README.md": "index.md"}

#: Where the other files outside are.
_OUTSIDE = "sources/"
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>)")
_LINK = re.compile(r"\]\((?!\w+:|#)(?P<file>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and each file outside that a page links to."""
    for name, place in ROOT_PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / name)))
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for path in (_path(page, link["file"]) for link in _LINK.finditer(page.content_string)):
            place = _place(path)
            if place.startswith(_OUTSIDE) and place not in files.src_uris:
                waiting.append(File.generated(config, place, content=_shown(path)))
                files.append(waiting[-1])
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links to files outside lead to their pages on the site."""

    def on_the_site(link: re.Match[str]) -> str:
        place = _place(_path(page.file, link["file"]))
        here = posixpath.dirname(page.file.src_uri)
        return f"]({posixpath.relpath(place, here or '.')}{link['anchor'] or ''})"

    return _LINK.sub(on_the_site, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Show a name in the source's texts as code alone."""
    return _ROLE.sub("", html)


def _path(page: File, link: str) -> str:
    """The path in the repository of what a page links to."""
    if page.src_uri in ROOT_PAGES.values():
        home = ""
    elif page.src_uri.startswith(_OUTSIDE):
        home = posixpath.dirname(page.src_uri.removeprefix(_OUTSIDE))
    else:
        home = posixpath.dirname(f"docs/{page.src_uri}")
    return posixpath.normpath(posixpath.join(home, link))


def _place(path: str) -> str:
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PLACES.get(path, f"{_OUTSIDE}{path.removesuffix('.md')}.md")


def _shown(path: str) -> str:
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    language = posixpath.splitext(path)[1].lstrip(".")
    shown = f'# {posixpath.basename(path)}\n\n````{language} title="{path}"\n{text}\n````\n'
    return f"---\nsearch: {{exclude: true}}\n---\n{shown}"
