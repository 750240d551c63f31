"""The map of a fix as a browser would read it: true to scale, whole in itself, and honest about what is not known."""

import math
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import numpy as np
import pytest
from pages.some_map import PLACES, TRUTH, WISH, a_fix, a_heat, a_picture, an_unknown_fix
from pages.test_run_page import HOSTILE, Reader

from heimdall_jax import geodesy
from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.evaluation.curves import hyperbola_deg, ring_deg
from heimdall_jax.pages.map_labels import LETTERS, Labels
from heimdall_jax.pages.map_marks import bands_deg, outline_deg
from heimdall_jax.pages.map_page import FixPicture, Heat, MapCurve, MapReceiver, map_page
from heimdall_jax.pages.map_view import HEIGHT, WIDTH, View, view_of
from heimdall_jax.pages.map_words import passes_m

TILES = "https://tile.example/{z}/{x}/{y}.png"


@pytest.fixture(scope="module")
def page() -> str:
    return map_page(a_picture())


def svgs(page: str) -> list[ElementTree.Element]:
    """The maps, parsed as strictly as XML is."""
    return [ElementTree.fromstring(text) for text in re.findall(r'<svg class="map" viewBox.*?</svg>', page, re.S)]


def paths(svg: ElementTree.Element, kind: str) -> list[np.ndarray]:
    """Points of the first outline of each path of a class."""
    found = []
    for path in svg.iter("path"):
        if kind in path.get("class", "").split():
            start, _, steps = path.get("d", "").removeprefix("M").split("M")[0].rstrip("z").partition("l")
            points = [[float(number) for number in step.split(",")] for step in [start, *steps.split()]]
            found.append(np.cumsum(points, axis=0))
    return found


def test_nothing_is_fetched_and_nothing_is_run(page):
    found = Reader(page)
    assert not {"script", "link", "iframe", "object", "base", "image", "img"} & {tag for tag, _ in found.tags}
    assert not [key for _, attributes in found.tags for key in attributes if key.startswith("on")]
    assert not [key for _, attributes in found.tags for key in attributes if key in ("src", "href")]
    assert not re.findall(r"https?:|@import|url\(", page)
    assert "fetches nothing" in found.text
    assert len(page) < 500_000


def test_every_map_has_a_name_and_a_description_and_the_tables_are_there(page):
    maps = svgs(page)
    assert len(maps) == 2
    for svg in maps:
        assert svg.get("role") == "img"
        title, description = (svg.find(tag) for tag in ("title", "desc"))
        assert title is not None
        assert description is not None
        assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert "The fix is at 45.10°\N{NO-BREAK SPACE}N, 7.90°\N{NO-BREAK SPACE}E" in (description.text or "")
    assert page.count("<table>") == 4
    assert re.findall(r"<h2>(.*?)</h2>", page)[-6:] == [
        "In words",
        "Receivers",
        "Regions",
        "Curves",
        "Density",
        "Notes",
    ]
    assert "GSHHG" in page
    assert "LGPL" in page


def test_the_numbers_are_those_of_the_fix(page):
    text = Reader(page).text
    assert "By differences of arrival times, at 3 of 4 receivers." in text
    away = float(geodesy.ground_distance_m(np.array(PLACES["Torino"]), np.array(TRUTH))) / 1000
    assert f"Torino 45.0700° N, 7.6900° E {away:.1f} km used clock 50 ns" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "receivers used 3 of 4" in text
    ellipse = geodesy.error_ellipse(a_fix()["covariance_m2"], 0.68)
    assert f"68% {ellipse.semi_major_m:,.0f} m {ellipse.semi_minor_m:,.0f} m {ellipse.azimuth_deg:.0f}°" in text
    assert "place 45.10000 N" in text  # in words
    assert text.count("what to know of it") == 1
    assert "Cuneo 44.3900° N, 7.5500° E" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "refused stale clock" in text


def test_what_others_named_is_text_and_never_markup():
    receivers = (MapReceiver(HOSTILE, 45.0, 7.0, True, HOSTILE), MapReceiver("B", 45.3, 7.7, False, HOSTILE))
    curve = MapCurve("ring", HOSTILE, ring_deg((45.0, 7.0), 50_000.0))
    page = map_page(FixPicture(HOSTILE, a_fix() | {"notes": [HOSTILE]}, receivers, (curve,)))
    found = Reader(page)
    assert found.all("script") == []
    assert found.text.count(HOSTILE) >= 8
    assert len(svgs(page)) == 2  # well-formed, too


def test_marks_are_where_view_and_names_say(page):
    """The widest map: every receiver's mark on its place; no two names on each other."""
    svg = svgs(page)[0]
    heard = [path.get("d") or "" for path in svg.iter("path") if path.get("class") in ("heard", "refused")]
    marks = np.array([[float(n) for n in re.findall(r"M([\d.]+),([\d.]+)m", d)[0]] for d in heard])
    view = view_of(_everything())
    expected = view.units(np.array(list(PLACES.values())))
    np.testing.assert_allclose(marks, expected, atol=0.06)
    names = {text.text for text in svg.iter("text")}
    assert names >= {*PLACES, "fix", "add here"}


def test_the_ellipses_are_true_on_the_map():
    """Longest and shortest reach from the place, and its direction: as `error_ellipse` has them."""
    fix = a_fix()
    for share in (0.68, 0.95):
        outline = outline_deg(fix, share)
        assert outline is not None
        ellipse = geodesy.error_ellipse(fix["covariance_m2"], share)
        away_m = geodesy.ground_distance_m(outline, np.array(TRUTH))
        assert away_m.max() == pytest.approx(ellipse.semi_major_m, rel=1e-3)
        assert away_m.min() == pytest.approx(ellipse.semi_minor_m, rel=1e-3)
        east, north = geodesy.degrees_to_local(outline[away_m.argmax()], TRUTH)
        assert math.degrees(math.atan2(east, north)) % 180 == pytest.approx(ellipse.azimuth_deg, abs=1.5)
    closer = svgs(map_page(FixPicture("x", fix, a_picture().receivers)))[1]
    (drawn,) = paths(closer, "p95")
    bar = float(re.findall(r"H([\d.]+)", closer.findall(".//path[@class='bar']")[0].get("d") or "")[0])
    start = float(re.findall(r"M([\d.]+)", closer.findall(".//path[@class='bar']")[0].get("d") or "")[0])
    long_m = next(float(t.text.split()[0]) * 1000 for t in closer.iter("text") if t.text and t.text.endswith(" km"))
    widest = np.linalg.norm(drawn[:, None] - drawn, axis=-1).max() * long_m / (bar - start)
    assert widest / 2 == pytest.approx(geodesy.error_ellipse(fix["covariance_m2"], 0.95).semi_major_m, rel=0.02)


def test_an_unknown_place_says_so_first_and_draws_the_best_guess_faintly():
    page = map_page(FixPicture("Unknown", an_unknown_fix(), a_picture().receivers))
    text = Reader(page).text
    assert text.index("I don't know where it is: too few receivers.") < text.index("All receivers")
    assert "best guess, not trusted" in text
    assert 'class="guess"' in page
    assert 'class="p95 faint"' in page
    assert 'class="fix"' not in page


def test_an_unknown_place_without_a_guess_shows_the_receivers():
    page = map_page(FixPicture("Unknown", an_unknown_fix(guessed=False), a_picture().receivers))
    (svg,) = svgs(page)
    assert {text.text for text in svg.iter("text")} >= set(PLACES)
    assert "too few receivers" in page
    assert 'class="p95' not in page


def test_a_region_far_larger_than_the_network_is_shown_with_the_network_closer():
    fix = a_fix(sigma_m=900_000.0)
    page = map_page(FixPicture("Wide", fix, a_picture().receivers))
    assert re.findall(r"<title[^>]*>(.*?)</title>", page)[1:] == ["All receivers", "The receivers used, closer"]


def test_receivers_on_the_other_side_of_the_earth_are_told_and_do_not_shrink_the_map():
    far = MapReceiver("ZL", -41.0, 174.0, False, "no overlap")
    page = map_page(FixPicture("Far", a_fix(), (*a_picture().receivers, far)))
    assert "beyond the edge of the map: ZL" in page
    assert "ZL" not in {text.text for text in svgs(page)[0].iter("text")}
    assert "km from left to right" in page


@pytest.mark.parametrize("place", [(-17.0, 179.9), (89.2, 10.0), (-77.8, 166.7)])
def test_maps_of_the_ends_of_the_earth(place):
    """The date line, a pole, and Antarctica: marks inside, no path that runs away."""
    receivers = tuple(
        MapReceiver(f"R{n}", *map(float, ring_deg(place, 80_000.0, points=6)[n]), used=True) for n in range(5)
    )
    for svg in svgs(map_page(FixPicture("Ends", a_fix(place), receivers))):
        for path in svg.iter("path"):
            numbers = [float(number) for number in re.findall(r"M(-?[\d.]+),(-?[\d.]+)", path.get("d") or "")[0]]
            assert -10 < numbers[0] < WIDTH + 10
            assert -10 < numbers[1] < HEIGHT + 10


def test_tiles_are_asked_for_only_where_wanted_and_lie_where_they_belong():
    """Tile (x, y) of zoom z begins at longitude x 360 / 2^z - 180 (the web map's own definition)."""
    page = map_page(a_picture(), TILES)
    svg = svgs(page)[0]
    tiles = [image.attrib for image in svg.iter("image")]
    assert 4 <= len(tiles) <= 30
    zoom, x, y = map(int, re.findall(r"example/(\d+)/(\d+)/(\d+)\.png", tiles[0]["href"])[0])
    corner = (math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y / 2**zoom)))), x * 360 / 2**zoom - 180)
    view = view_of(_everything(), web=True)
    np.testing.assert_allclose(
        view.units(np.array([corner])), [[float(tiles[0]["x"]), float(tiles[0]["y"])]], atol=0.02
    )
    spans = {axis: (min(float(t[axis]) for t in tiles), max(float(t[axis]) for t in tiles)) for axis in "xy"}
    size = float(tiles[0]["width"])
    assert spans["x"][0] <= 0 < WIDTH <= spans["x"][1] + size
    assert spans["y"][0] <= 0 < HEIGHT <= spans["y"][1] + size
    assert "Tiles are fetched from tile.example" in page


def _everything() -> np.ndarray:
    outline = outline_deg(a_fix(), 0.95)
    assert outline is not None
    return np.concatenate([np.array([*PLACES.values(), WISH]), outline, *bands_deg(a_heat())[0]])


@pytest.mark.parametrize(
    "tiles", ["", "https://tile.example/", "file:///{z}/{x}/{y}", "javascript:{z}{x}{y}", "https://[/{z}/{x}/{y}"]
)
def test_an_address_that_is_none_of_tiles_is_refused(tiles):
    with pytest.raises(ConfigError, match="address of tiles"):
        map_page(a_picture(), tiles)


def test_nothing_to_show_is_refused():
    with pytest.raises(DataError, match="a map"):
        map_page(FixPicture("None", an_unknown_fix(guessed=False), ()))


def test_bands_hold_what_they_say():
    """Of a normal density the smallest area that holds p is the ellipse of p, whose area is -2 pi ln(1 - p) sigma^2."""
    sigma_m, bands = 3_000.0, bands_deg(a_heat(3_000.0))
    for share, rings in zip((0.95, 0.8, 0.5, 0.25), bands, strict=True):
        away_m = geodesy.ground_distance_m(np.concatenate(rings), np.array(TRUTH))
        np.testing.assert_allclose(away_m, sigma_m * math.sqrt(-2 * math.log1p(-share)), rtol=0.03)


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf, 0.0])
def test_a_density_that_is_none_is_refused(wrong):
    heat = a_heat()
    density = np.zeros_like(heat.density_YX) if wrong == 0 else heat.density_YX.copy()
    density[3, 4] = wrong
    with pytest.raises(DataError, match="heat map"):
        map_page(FixPicture("x", a_fix(), (), heat=Heat(heat.latitude_deg_Y, heat.longitude_deg_X, density)))


def test_a_curve_passes_a_place_as_near_as_it_does():
    curve = MapCurve("ring", "x", ring_deg((45.0, 7.0), 50_000.0))
    assert passes_m(curve, (45.0, 7.0)) == pytest.approx(50_000, rel=1e-3)
    on_it = hyperbola_deg((45.0, 7.0), (45.0, 8.0), -20_000.0)
    assert passes_m(MapCurve("hyperbola", "y", on_it), (45.0, 7.5)) == pytest.approx(10_000, rel=0.02)


def test_a_view_goes_there_and_back_and_shows_what_it_is_of():
    points = np.array([[46.0, 7.0], [44.0, 9.0], [45.5, 10.0]])
    for web in (False, True):
        view = view_of(points, web=web)
        assert view.shows(points).all()
        np.testing.assert_allclose(view.places_deg(view.units(points)), points, atol=1e-6)
        part = view.part
        assert part.x_low < 7.0 < 10.0 < part.x_high
        assert part.y_low < 44.0 < 46.0 < part.y_high
    assert View((89.0, 0.0), 2_000.0).part[0::2] == pytest.approx((-180.0, 180.0), abs=1.0)


def test_names_never_lie_on_each_other():
    labels = Labels()
    rng = np.random.default_rng(0)
    spots = rng.uniform((60, 60), (WIDTH - 60, HEIGHT - 60), (40, 2)).tolist()
    for x, y in spots:
        labels.keep_free_about(x, y)
    placed = [labels.name(f"RX{n:02d}", x, y) for n, (x, y) in enumerate(spots)]
    found = [label for label in placed if label is not None]
    assert len(found) > 20
    boxes = labels.taken[len(spots) :]
    assert len(boxes) == len(found)
    assert not any(a.meets(b) for a, b in combinations(labels.taken, 2) if b in boxes)
    assert all(box.y_high - box.y_low > LETTERS for box in boxes)


def test_a_long_name_is_shortened_on_the_map():
    label = Labels().name("a receiver with a very long name", 100.0, 100.0)
    assert label is not None
    assert label.text == "a receiver with a…"
