"""The page as a browser would read it: whole in itself, readable by those who do not see, and honest about gaps."""

import base64
import re
from html.parser import HTMLParser

from evaluation.some_fixes import metrics_of, some_fixes

from heimdall_jax.evaluation.panels import Panel
from heimdall_jax.evaluation.report_maps import fix_map
from heimdall_jax.evaluation.table import spoken_m
from heimdall_jax.pages.run_page import run_page

VOID = {"meta", "img", "link", "br", "hr", "input"}
ERRORS = dict.fromkeys(("mean", "median", "p68", "p90", "rmse"), 123.0)
HOSTILE = '<script>alert("1")</script>'


class Reader(HTMLParser):
    """Tags with their attributes, and the text; whatever is opened must be closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def a_panel(**changes) -> Panel:
    whole = {"name": "curve", "title": "A curve", "caption": "How it goes.", "alt": 'It "rises" & falls.'}
    return Panel(**(whole | {"header": ("x", "y"), "rows": (("1", "2"),), "png": b"\x89PNG made up"} | changes))


def read(panels=(), name="night", **changes) -> Reader:
    return Reader(run_page(name, metrics_of(some_fixes(60), **changes), panels))


def test_nothing_is_fetched_and_nothing_is_run():
    text = run_page("night", metrics_of(some_fixes(60)), [a_panel(), fix_map(some_fixes(60))])
    found = Reader(text)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in found.tags}
    assert not [key for _, attributes in found.tags for key in attributes if key.startswith("on")]
    links = [value for _, attributes in found.tags for key, value in attributes.items() if key in ("src", "href")]
    assert links
    assert all(link is not None and link.startswith("data:image/png;base64,") for link in links)
    assert not re.findall(r"https?:|@import|url\(", text)


def test_the_pictures_are_the_panels_with_their_words_and_numbers():
    found = read([a_panel()])
    (image,) = found.all("img")
    assert image["alt"] == 'It "rises" & falls.'
    assert image["src"] is not None
    assert base64.b64decode(image["src"].partition(",")[2]) == b"\x89PNG made up"
    assert len(found.all("details")) == len(found.all("summary")) == len(found.all("figcaption")) == 1
    assert "How it goes. The numbers behind it x y 1 2" in found.text


def test_a_figure_that_does_not_apply_leaves_its_sentence():
    found = read([a_panel(png=b"", caption="No figure: nothing moved.", header=(), rows=())])
    assert found.all("img") == found.all("details") == []
    assert "A curve No figure: nothing moved." in found.text


def test_a_narrow_screen_and_a_dark_one_are_served():
    """Wide tables scroll by themselves, pictures shrink, and colours are given for both schemes."""
    text = run_page("night", metrics_of(some_fixes(60)), [a_panel()])
    found = Reader(text)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in found.all("meta")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    light, dark = re.findall(r":root \{(.*?)\}", style, re.S)
    names = [set(re.findall(r"(--\w+):", part)) for part in (light, dark)]
    assert names[0] == names[1] == set(re.findall(r"var\((--\w+)\)", style))
    assert "@media (prefers-color-scheme: dark)" in style
    assert re.search(r"img \{[^}]*width: 100%", style)
    assert re.search(r"\.scroll \{[^}]*overflow: auto", style)
    assert not re.findall(r"min-width: (?:[4-9]\d\d|\d{4,})px", style)
    assert len(re.findall(r"<table>", text)) == len(re.findall(r'<div class="scroll"[^>]*>\s*<table>', text)) > 1


def test_what_others_named_is_text_and_never_markup():
    found = read([a_panel(caption=HOSTILE)], name=HOSTILE, notes=[HOSTILE], controls={HOSTILE: ERRORS})
    assert found.all("script") == []
    assert found.text.count(HOSTILE) == 5  # title, heading, control, caption, note


def test_the_numbers_are_those_of_the_metrics():
    metrics = metrics_of(some_fixes(60), controls={"no_radio": ERRORS})
    region = {"sigma_m": 9.0, "nll_nats_per_fix": 17.25, "coverage": metrics["coverage"], "region_area_m2": 2e6}
    found = Reader(run_page("night", metrics | {"baseline_regions": {"knn5": region}, "notes": ["taken as UTC"]}, []))
    errors = metrics["error_m"]
    cells = " ".join(spoken_m(errors[key]) for key in ("mean", "median", "p68", "p90", "rmse"))
    assert f"model {cells} baseline: knn5" in found.text
    assert "control: no radio 123 m" in found.text
    assert "baseline: knn5 17.25" in found.text
    assert found.text.index("Notes") < found.text.index("taken as UTC")
    assert "There is no bound" in found.text
    assert "There is no control" not in found.text


def test_the_bound_and_the_clocks_are_told_where_there_are_some():
    bound = {"kind": "posterior_mean", "median_m": 66.0, "p68_m": 77.0, "rmse_m": 88.0, "ratio_p68": 1.0}
    clock = {"name": "clocks 1 us", "n": 9, "error_m": {"fused": {"p68": 371.0}}, "bound_p68_m": 363.0}
    rows = [clock | {"bound_binds": True, "coverage_68": 0.7}, clock | {"bound_binds": False, "coverage_68": 0.7}]
    found = read(bound=bound, by_clock=rows)
    assert "bound: posterior mean 66.0 m 77.0 m 88.0 m" in found.text
    assert "clocks 1 us 9 371 m 363 m 70%" in found.text
    assert "clocks 1 us 9 371 m (363 m) 70%" in found.text
    assert "There is no bound" not in found.text
    assert "reference" not in found.text
    found = read(bound=bound | {"binds": False, "left_out": 0})
    assert "reference: posterior mean 66.0 m 77.0 m 88.0 m" in found.text
    assert "who knows a map of powers may be below it" in found.text


def test_what_is_no_test_is_said_first():
    assert "trained on 12 of these rows: this is no test" in read(n_trained_on=12).text
    assert "this is interpolation" in read(split="random").text
    plain = read().text
    assert "this is no test" not in plain
    assert "interpolation" not in plain
