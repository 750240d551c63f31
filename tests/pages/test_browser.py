"""Pages in a real browser: quiet, alone, no wider than the screen, and readable by everyone."""

import numpy as np
import pytest
from evaluation.some_fixes import metrics_of, some_fixes
from evaluation.test_report_training import some_history
from pages.browser import HEIGHTS, SCHEMES, Browser
from pages.browser import browser as browser
from pages.some_map import a_picture, an_unknown_fix
from pages.test_compare_page import a_page as compared_page
from pages.test_compare_page import some_runs

from heimdall_jax.evaluation.report_maps import fix_map
from heimdall_jax.evaluation.report_training import training_panels
from heimdall_jax.pages.error_map import error_map
from heimdall_jax.pages.map_page import FixPicture, map_page
from heimdall_jax.pages.run_page import run_page

pytestmark = pytest.mark.slow


def an_unknown_place() -> str:
    return map_page(FixPicture("Unknown", an_unknown_fix(), a_picture().receivers))


def a_run() -> str:
    fixes = some_fixes(60)
    panels = [fix_map(fixes), error_map(fixes), *training_panels(some_history(), 60)]
    return run_page("night", metrics_of(fixes), panels)


PAGES = {
    "map": lambda: map_page(a_picture()),
    "unknown": an_unknown_place,
    "run": a_run,
    "compare": lambda: compared_page(some_runs()),
}


@pytest.fixture(scope="module", params=sorted(PAGES))
def page(request) -> str:
    return PAGES[request.param]()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", sorted(HEIGHTS))
def test_a_page_is_quiet_alone_and_readable(browser: Browser, page, width, scheme):
    visit = browser.open(page, width, scheme)
    assert visit.complaints == []
    assert visit.requests == []
    assert visit.overflow_px <= 0
    assert visit.findings == []


def test_dark_is_dark_and_light_is_light(browser: Browser):
    page = map_page(a_picture())
    light, dark = (
        np.mean([float(part) for part in browser.open(page, scheme=scheme).background.strip("rgba()").split(",")[:3]])
        for scheme in SCHEMES
    )
    assert dark < 50 < 200 < light


def test_the_browser_finds_what_is_wrong(browser: Browser):
    """A page with every fault: else the other tests could not fail."""
    faulty = (
        '<html><body style="width:3000px"><img src="http://127.0.0.1:1/x.png">'
        "<p style='color:#eee;background:#fff'>pale</p><script>throw Error('loud')</script></body></html>"
    )
    visit = browser.open(faulty, 400)
    assert any("loud" in line for line in visit.complaints)
    assert visit.requests == ["http://127.0.0.1:1/x.png"]
    assert visit.overflow_px > 2000
    assert {finding.split(":")[0] for finding in visit.findings} >= {"image-alt", "color-contrast", "html-has-lang"}
