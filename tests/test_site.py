"""The documentation as a site: whole, without a warning, asking no other host for anything, searchable from files."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.documentation import DOCS, PAGES
from tests.laws import MAY_IMPORT, ROOT

CONFIG = ROOT / ".mkdocs.yml"
ASKS = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?([^\"'\s>]+)")
STYLE_ASKS = re.compile(r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\"')\s]+)")


def reference() -> set[str]:
    """Modules and rooms whose docstrings are pages."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    return set(re.findall(r"^::: heimdall_jax\.(\w+)$", text, re.M))


def test_every_module_is_in_the_reference():
    assert reference() == MAY_IMPORT.keys()


def test_the_site_is_not_committed():
    folder = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["site_dir"]
    done = subprocess.run(["git", "check-ignore", "--quiet", folder], cwd=ROOT, check=False)
    assert done.returncode == 0, f"{folder} is not ignored"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as the README says; what was said is in `said`."""
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra `docs`)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(CONFIG), "-d", str(folder / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # the theme's word on its own future
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    (folder / "said").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_it_builds_without_a_warning_and_has_every_page(site):
    said = (site / "said").read_text()
    assert re.search(r"WARNING|ERROR|Traceback|Warning", said) is None, said
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in PAGES if DOCS in page.parents}
    assert pages <= {path.relative_to(site / "site") for path in (site / "site").rglob("*.html")}
    described = (site / "site" / "reference" / "features.html").read_text(encoding="utf-8")
    assert 'id="heimdall_jax.features.spectra.iq_to_mel_spectrogram"' in described
    assert "sample_rate_hz" in described


@pytest.mark.slow
def test_it_asks_no_other_host(site):
    asked = {}
    for path in (site / "site").rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        asked[path.name] = [url for url in ASKS.findall(text) if re.match(r"(?:https?:)?//", url)]
    for path in (site / "site").rglob("*.css"):
        asked[path.name] = STYLE_ASKS.findall(path.read_text(encoding="utf-8"))
    assert {name: urls for name, urls in asked.items() if urls} == {}


def test_what_would_ask_another_host_is_found():
    assert ASKS.findall('<script src="https://a.example/x.js"></script><a href="https://b.example">') == [
        "https://a.example/x.js"
    ]
    assert STYLE_ASKS.findall("@font-face{src:url(https://a.example/x.woff2)}") == ["https://a.example/x.woff2"]


@pytest.mark.slow
def test_pages_opened_as_files_are_searched_without_a_server(site, chromium):
    complaints, asked = [], []
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "site" / "index.html").as_uri())
        page.locator(".md-search__input").click()
        page.keyboard.type("Hampel", delay=50)
        page.wait_for_selector(".md-search-result__item", timeout=120_000)
        found = page.locator(".md-search-result__link").first.get_attribute("href")
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert found is not None
    assert Path(found.partition("?")[0].partition("#")[0]).name in ("TRAINING.html", "training.html")
