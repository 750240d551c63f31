"""A headless Chromium that opens a page and tells what a visitor would see and hear of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

HEIGHTS = {400: 800, 1280: 900}
"""Of windows by their width, pixels: a telephone and a desk."""
SCHEMES = ("light", "dark")
GRAVE = {"serious", "critical"}


@dataclass(frozen=True)
class Visit:
    """What opening a page did.

    Attributes:
        complaints: Errors and warnings on the console, and exceptions.
        requests: Addresses that were asked for.
        overflow_px: By how much the page is wider than its window.
        findings: Serious and critical ones of axe-core, each with the first element that has it.
        background: Colour of the page as CSS tells it.
    """

    complaints: list[str]
    requests: list[str]
    overflow_px: int
    findings: list[str]
    background: str


class Browser:
    """Opens pages, each in a profile of its own."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    def open(self, html: str, width: int = 1280, scheme: str = "light", picture: str | None = None) -> Visit:
        """Visit a page as wide as that, in the light or dark scheme, and perhaps keep a picture of all of it."""
        from axe_playwright_python.sync_playwright import Axe

        size = {"width": width, "height": HEIGHTS.get(width, 900)}
        context = self._chromium.new_context(viewport=size, color_scheme=scheme)
        try:
            page, complaints, requests = context.new_page(), [], []
            page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.set_content(html, wait_until="load")
            wide, seen = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            if picture is not None:
                page.screenshot(path=picture, full_page=True)
            asked = [url for url in requests if not url.startswith("data:")]
            found = Axe().run(page).response["violations"]
            findings = [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in GRAVE]
            return Visit(complaints, asked, wide - seen, findings, background)
        finally:
            context.close()


@pytest.fixture
def browser(chromium: Any) -> Browser:
    """Debian's Chromium, where it is, with axe-core."""
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed (extra `browser`)")
    return Browser(chromium)
