"""Land, water and borders where an atlas has them."""

import numpy as np
import pytest
from matplotlib.path import Path

from heimdall_jax.geodesy import ground_distance_m
from heimdall_jax.pages.coast import detail_for, shapes_deg
from heimdall_jax.pages.outlines import Rectangle, cut_area, cut_line, filled_in, path_data

SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0], [0.0, 0.0]])


def about(latitude, longitude, by=1.0):
    return Rectangle(longitude, latitude, longitude, latitude).grown(by)


def covers(layer, place_deg, detail="intermediate") -> bool:
    return any(Path(shape).contains_point(place_deg) for shape in shapes_deg(layer, about(*place_deg), detail))


@pytest.mark.parametrize("detail", ["intermediate", "low", "crude"])
def test_land_is_land_and_sea_is_sea(detail):
    """Turin, the Ligurian Sea, Kansas, the South Pole, the North Pole, Fiji's Vanua Levu east and west of 180."""
    land = [(45.07, 7.69), (38.5, -98.0), (-89.0, 20.0)]
    sea = [(43.0, 8.0), (0.0, 0.0), (89.0, 20.0), (-48.9, -123.4)]
    assert [place for place in land if not covers("land", place, detail)] == []
    assert [place for place in sea if covers("land", place, detail)] == []


def test_lakes_lie_on_land_and_islands_in_lakes():
    """Lake Geneva; Manitoulin, the largest island of any lake, in Lake Huron."""
    assert covers("land", (46.45, 6.6))
    assert covers("lake", (46.45, 6.6))
    assert not covers("lake", (45.07, 7.69))
    assert covers("lake", (45.77, -82.2))
    assert covers("island", (45.77, -82.2))


@pytest.mark.parametrize("place_deg", [(45.8326, 6.8652), (43.784, 7.53), (41.0, -102.05)])
def test_borders_pass_where_countries_meet(place_deg):
    """France and Italy on Mont Blanc and at Ventimiglia; there is none in Nebraska."""
    lines = shapes_deg("border", about(*place_deg, 2.0))
    nearest_m = min((ground_distance_m(line, np.array(place_deg)).min() for line in lines), default=np.inf)
    assert (nearest_m < 2_000) == (place_deg[1] > 0)


def test_rivers_run_where_they_should():
    """The Rhine at Mainz and the Main at Frankfurt, to the source's few kilometres."""
    lines = shapes_deg("river", about(50.0, 8.4))
    for place_deg in ((50.0, 8.27), (50.1, 8.68)):
        assert min(ground_distance_m(filled_in(line, 0.01), np.array(place_deg)).min() for line in lines) < 5_000


@pytest.mark.parametrize("turn_deg", [-360.0, 0.0])
def test_longitudes_go_through_the_date_line(turn_deg):
    """Vanua Levu and Taveuni, Fiji, lie on both sides of 180 degrees."""
    part = about(-16.6, 180.0 + turn_deg, 1.5)
    shapes = np.concatenate(shapes_deg("land", part))
    assert shapes[:, 1].min() < 179.5 + turn_deg < 180.05 + turn_deg < shapes[:, 1].max()
    assert shapes[:, 1].min() >= part.x_low - 1e-9
    assert shapes[:, 1].max() <= part.x_high + 1e-9


def test_what_is_outside_or_too_small_is_left_out():
    part = about(38.0, 25.0, 3.0)  # the Aegean has many islands
    every = shapes_deg("land", part)
    large = shapes_deg("land", part, least_km2=200.0)
    assert 3 < len(large) < len(every) / 5
    inside = np.concatenate(every)
    assert (np.abs(inside - (38.0, 25.0)) <= 3.0 + 1e-9).all()
    assert shapes_deg("border", about(0.0, -30.0)) == []


def test_the_detail_follows_the_scale():
    assert [detail_for(metres) for metres in (100.0, 5_000.0, 30_000.0)] == ["intermediate", "low", "crude"]


def test_an_area_is_cut_at_the_edges():
    (piece,) = cut_area(SQUARE, Rectangle(5.0, -5.0, 20.0, 4.0))
    assert {tuple(point) for point in piece.tolist()} == {(5.0, 0.0), (10.0, 0.0), (10.0, 4.0), (5.0, 4.0)}
    assert cut_area(SQUARE, Rectangle(20.0, 20.0, 30.0, 30.0)) == []
    (whole,) = cut_area(SQUARE, Rectangle(2.0, 2.0, 3.0, 3.0))
    assert np.ptp(whole, axis=0).tolist() == [1.0, 1.0]


def test_a_line_is_cut_into_the_pieces_inside():
    """And one unit more."""
    zigzag = np.array([[0.0, 0.0], [4.0, 10.0], [8.0, 0.0], [12.0, 10.0]])
    pieces = cut_line(zigzag, Rectangle(0.0, 0.0, 20.0, 5.0))
    assert [piece.round(6).tolist() for piece in pieces] == [
        [[0.0, 0.0], [2.4, 6.0]],
        [[5.6, 6.0], [8.0, 0.0], [10.4, 6.0]],
    ]
    assert cut_line(zigzag, Rectangle(0.0, 20.0, 1.0, 21.0)) == []


def test_thinning_keeps_the_shape():
    """Of 2,001 points of a sine few stay, and no point of it is far from what stays."""
    x = np.linspace(0.0, 100.0, 2001)
    sine = np.stack([x, 20 * np.sin(x / 8)], axis=-1)
    (thin,) = cut_line(sine, Rectangle(-1.0, -30.0, 101.0, 30.0), 0.25)
    assert 10 < len(thin) < 150
    away = np.linalg.norm(sine[:, None] - filled_in(thin, 0.1), axis=-1).min(axis=1)
    assert away.max() < 0.5
    np.testing.assert_allclose(thin[[0, -1]], sine[[0, -1]])


def test_filling_in_keeps_the_points_and_the_way():
    filled = filled_in(SQUARE, 0.3)
    assert np.linalg.norm(np.diff(filled, axis=0), axis=-1).max() <= 0.3
    assert np.linalg.norm(np.diff(filled, axis=0), axis=-1).sum() == pytest.approx(40.0, abs=0.5)
    np.testing.assert_array_equal(filled[[0, -1]], SQUARE[[0, -1]])


def test_path_data_is_what_a_browser_draws():
    """Relative steps of tenths add up to the rounded points, however many there are."""
    assert path_data([SQUARE], closed=True) == "M0,0l10,0 0,10 -10,0 0,-10z"
    walk = np.cumsum(np.random.default_rng(0).uniform(-1, 1, (500, 2)), axis=0)
    text = path_data([walk], closed=False)
    start, steps = text[1:].split("l")
    points = np.cumsum([np.fromstring(p, sep=",") for p in [start, *steps.split(" ")]], axis=0)
    np.testing.assert_allclose(points[-1], walk[-1].round(1), atol=1e-9)
    assert path_data([np.array([[1.0, 1.0], [1.01, 1.01]])], closed=False) == ""
