"""GeoJSON of fixes, by the rules of RFC 7946."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from heimdall_jax import geodesy
from heimdall_jax.locate.found import Fix, Found, gaussian
from heimdall_jax.locate.geojson import to_geojson
from heimdall_jax.locate.picture import to_picture
from heimdall_jax.types import Station

COVARIANCES = {
    "round": [[1e6, 0.0], [0.0, 1e6]],
    "needle": [[4e6, 1.9e6], [1.9e6, 1e6]],
    "other needle": [[1e6, -1.9e6], [-1.9e6, 4e6]],
    "large": [[4e10, 1e10], [1e10, 2e10]],
}
STATIONS = (Station("TO", 45.044, 7.672), Station("GE", 44.395, 8.956), Station("MI", 45.478, 9.123))


def found(place_deg: tuple[float, float] = (44.85, 8.35), covariance: str = "needle", **changes) -> Found:
    fix = Fix(place_deg, np.array(COVARIANCES[covariance]))
    answer = {
        "method": "tdoa",
        "fix": fix,
        "reasons": (),
        "stations": STATIONS,
        "used": ("TO", "GE"),
        "refused": ({"name": "MI", "reason": "dead"},),
        "windows": {"length_s": 1.0, "in_common": 1, "used": 1},
        "notes": (),
        "log_density": gaussian(fix),
    }
    return Found(**answer | changes)


def rings(tree: dict) -> dict[float, list[list[float]]]:
    polygons = [part for part in tree["features"] if part["geometry"]["type"] == "Polygon"]
    return {part["properties"]["probability"]: part["geometry"]["coordinates"][0] for part in polygons}


def signed_area(ring: list[list[float]]) -> float:
    """The shoelace formula: positive counter-clockwise."""
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("place_deg", [(44.85, 8.35), (-33.9, 151.2), (10.0, 179.99), (-16.5, -179.995)])
def test_regions_are_closed_rings_that_run_the_right_way(covariance, place_deg):
    tree = json.loads(json.dumps(to_geojson(found(place_deg, covariance)), allow_nan=False))
    assert (tree["type"], tree["located"], tree["reasons"]) == ("FeatureCollection", True, [])
    assert rings(tree).keys() == {0.68, 0.95}
    areas = {}
    for share, ring in rings(tree).items():
        assert ring[0] == ring[-1]
        assert len(ring) >= 4
        areas[share] = signed_area(ring)
        assert areas[share] > 0
        # Torn nowhere: neighbours are near, also beyond the antimeridian.
        assert max(abs(a[0] - b[0]) for a, b in pairwise(ring)) < 5
    # Areas of ellipses: -2 ln(1 - p) times pi times the root of the determinant; degrees shrink by cos(latitude).
    assert areas[0.95] / areas[0.68] == pytest.approx(math.log(0.05) / math.log(0.32), rel=0.02)
    if covariance != "large":
        per_deg_m = math.pi / 180 * 6_371_000
        area_m2 = areas[0.68] * per_deg_m**2 * math.cos(place_deg[0] / 180 * math.pi)
        whole_m2 = -2 * math.log(0.32) * math.pi * math.sqrt(np.linalg.det(COVARIANCES[covariance]))
        assert area_m2 == pytest.approx(whole_m2, rel=0.02)


def test_every_corner_lies_on_its_region():
    answer = found(covariance="needle")
    for share, ring in rings(to_geojson(answer)).items():
        place_deg = np.array(ring)[:, ::-1]
        off_m = geodesy.degrees_to_local(place_deg, answer.fix.place_deg)
        squared = np.einsum("ne,ef,nf->n", off_m, np.linalg.inv(answer.fix.covariance_m2), off_m)
        np.testing.assert_allclose(squared, -2 * math.log1p(-share), rtol=1e-3)


def test_points_have_the_longitude_first_and_say_what_they_are():
    fix, *others = [part for part in to_geojson(found())["features"] if part["geometry"]["type"] == "Point"]
    assert fix["geometry"]["coordinates"] == [8.35, 44.85]
    assert fix["properties"]["role"] == "fix"
    told = {
        part["properties"]["name"]: (part["geometry"]["coordinates"], part["properties"]["used"]) for part in others
    }
    assert told == {
        "TO": ([7.672, 45.044], True),
        "GE": ([8.956, 44.395], True),
        "MI": ([9.123, 45.478], False),
    }


def test_a_place_that_is_not_claimed_is_not_in_it():
    tree = to_geojson(found(reasons=("bad geometry: so",)))
    assert (tree["located"], tree["reasons"]) == (False, ["bad geometry: so"])
    assert {part["properties"]["role"] for part in tree["features"]} == {"receiver"}


def test_a_region_larger_than_half_the_earth_is_left_out():
    fix = Fix((44.85, 8.35), np.eye(2) * 1e14)
    assert rings(to_geojson(found(fix=fix))) == {}
    assert to_picture(found(fix=fix)).heat is None


def test_the_picture_shows_the_density_about_the_place():
    picture = to_picture(found(covariance="round"))
    assert picture.heat is not None
    row, column = np.unravel_index(np.argmax(picture.heat.density_YX), picture.heat.density_YX.shape)
    assert picture.heat.latitude_deg_Y[row] == pytest.approx(44.85)
    assert picture.heat.longitude_deg_X[column] == pytest.approx(8.35)
    assert (np.diff(picture.heat.latitude_deg_Y) > 0).all()
    assert (np.diff(picture.heat.longitude_deg_X) > 0).all()
    # Four standard deviations to each side: exp(-8).
    assert picture.heat.density_YX[row, 0] == pytest.approx(math.exp(-8), rel=0.02)
    assert picture.heat.density_YX[0, column] == pytest.approx(math.exp(-8), rel=0.02)
    assert {one.name: (one.used, one.note) for one in picture.receivers}["MI"] == (False, "dead")
    assert picture.fix["located"]
