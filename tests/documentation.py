"""The documentation's pages, taken apart: sections, tables, links, snippets, and the parsers of its command lines."""

import re
import shlex
from pathlib import Path

from tests.laws import ROOT

DOCS = ROOT / "docs"
TRAINING = DOCS / "TRAINING.md"
TUTORIAL = DOCS / "tutorial.md"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """A page as tests call it."""
    return page.relative_to(ROOT).as_posix()


def snippets(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def section(page: Path, title: str) -> str:
    """The text under a `##` heading, up to the next."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"{page.name} has no section {title!r}"
    return found.group(1)


def rows(text: str) -> list[list[str]]:
    """Cells of every table row."""
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")
    ]


def commands(page: Path) -> list[list[str]]:
    """Words of each command of the page's shell blocks, comments left out, lines cut at `&&`.

    Of programs (`bash`) only the calls of our scripts are cut out.
    """
    lines = [line for body in snippets(page, "sh") for line in body.splitlines()]
    parts = [part for line in lines for part in line.split("&&")]
    for body in snippets(page, "bash"):
        parts += re.findall(r"python scripts/[^\n\"]*", body.replace("\\\n", " "))
    return [words for part in parts if (words := shlex.split(part, comments=True))]
