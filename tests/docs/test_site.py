"""The documentation as a site: it builds, its links lead somewhere, it loads only itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from playwright.sync_api import Browser, sync_playwright

from itwinai import hpo
from itwinai.torch import trainer

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_LOADED_BY_STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")
#: What a browser loads by itself; a link that is followed by a click is none of it.
_LOADING = {"src", "srcset", "data", "poster", "xlink:href"}


@dataclass
class Document(HTMLParser):
    """A page of the site: what it loads, where it links to, and what can be linked to in it."""

    path: Path
    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    navigation: list[str] = field(default_factory=list)
    _styled: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._styled = tag == "style"
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.loads += [value for name, value in given.items() if name in _LOADING]
        self.loads += loaded_by(given.get("style", ""))
        if tag in ("link", "use", "image"):
            self.loads += [given["href"]]
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
            if "md-nav__link" in given.get("class", "") and not given["href"].startswith("#"):
                self.navigation.append(given["href"])

    def handle_data(self, data: str) -> None:
        if self._styled:
            self.loads += loaded_by(data)

    def target(self, link: str) -> tuple[Path, str]:
        """The file that a link leads to, and the place in it."""
        file, anchor = urldefrag(link)
        return (self.path.parent / unquote(file)).resolve() if file else self.path, anchor


def loaded_by(style: str) -> list[str]:
    return ["".join(found) for found in _LOADED_BY_STYLE.findall(style)]


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site").resolve()
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture(scope="module")
def documents(site: Path) -> dict[Path, Document]:
    # The page that a server shows for one that is not there has the server's own addresses.
    return {path: Document(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_nothing_is_loaded_from_another_host(site: Path, documents: dict[Path, Document]) -> None:
    loads = [(path.name, load) for path, page in documents.items() for load in page.loads]
    for kind in ("*.css", "*.svg"):
        for path in site.rglob(kind):
            loads += [(path.name, load) for load in loaded_by(path.read_text(encoding="utf-8"))]
    assert len(loads) > 100
    assert [load for load in loads if is_elsewhere(load[1])] == []


def test_what_the_pages_load_and_link_to_is_there(documents: dict[Path, Document]) -> None:
    links = [
        (page, link)
        for page in documents.values()
        for link in page.links + page.loads
        if not urlsplit(link).scheme and not is_elsewhere(link)
    ]
    assert len(links) > 1000
    assert [(p.path.name, link) for p, link in links if not leads(p, link, documents)] == []


def leads(page: Document, link: str, documents: dict[Path, Document]) -> bool:
    file, anchor = page.target(link)
    return file.is_file() and (not anchor or anchor in documents[file].anchors)


def test_the_navigation_names_every_page_once(site: Path, documents: dict[Path, Document]) -> None:
    # A page that is not in the navigation itself: there, nothing of it is left out or said twice.
    shown = documents[site / "sources" / "examples" / "digits" / "study.yaml.html"]
    named = Counter(shown.target(link)[0] for link in shown.navigation)
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    expected = {(site / page).with_suffix(".html") for page in pages}
    expected |= {site / "security.html", site / "contributing.html"}
    assert named == Counter(expected)


def test_the_reference_has_the_public_names_and_their_texts(
    site: Path, documents: dict[Path, Document]
) -> None:
    public = [f"{module.__name__}.{name}" for module in (hpo, trainer) for name in module.__all__]
    assert [name for name in public if name not in documents[site / "reference.html"].anchors] == []
    text = (site / "reference.html").read_text(encoding="utf-8")
    assert "Folder that holds studies; on several nodes it must be shared." in text
    assert ":class:" not in text


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_it_is_read_and_searched_from_a_disk(site: Path, browser: Browser) -> None:
    tab = browser.new_page()
    requests: list[str] = []
    messages: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.goto((site / "architecture.html").as_uri())
    tab.locator("input[name=query]").first.press_sequentially("reduction_factor")
    found = tab.locator(".md-search-result__link").first
    found.wait_for(timeout=60_000)
    assert found.get_attribute("href", timeout=60_000).startswith(site.as_uri())
    assert [url for url in requests if not url.startswith(("file:", "data:", "about:"))] == []
    assert messages == []
