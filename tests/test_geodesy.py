"""Geodesy against pymap3d, an independent library, and against itself there and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pymap3d
import pymap3d.vincenty
import pytest
import scipy.constants
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from heimdall_jax import geodesy
from heimdall_jax.errors import DataError

latitude, longitude = st.floats(-85, 85), st.floats(-180, 180)
PLACES = np.array([[45.044, 7.672], [-33.9, 151.2], [0.0, 0.0], [78.2, 15.6], [40.766, -111.84], [-54.8, -179.9]])


def test_speed_of_light_and_ellipsoid():
    """CODATA through SciPy; WGS84 through pymap3d."""
    wgs84 = pymap3d.Ellipsoid.from_name("wgs84")
    assert scipy.constants.speed_of_light == geodesy.SPEED_OF_LIGHT_M_PER_S
    assert wgs84.semimajor_axis == geodesy.SEMI_MAJOR_M
    assert pytest.approx(wgs84.flattening, rel=1e-12) == geodesy.FLATTENING
    assert pytest.approx(wgs84.eccentricity**2, rel=1e-12) == geodesy.ECCENTRICITY_SQUARED


@pytest.mark.parametrize("altitude_m", [0.0, 600.0, -50.0])
def test_ecef_is_pymap3ds(altitude_m):
    expected = np.stack(pymap3d.geodetic2ecef(PLACES[:, 0], PLACES[:, 1], np.full(len(PLACES), altitude_m)), axis=-1)
    np.testing.assert_allclose(geodesy.degrees_to_ecef(PLACES, altitude_m), expected, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(latitude, longitude, st.floats(-2, 2), st.floats(-2, 2), st.floats(-100, 9000))
def test_enu_is_pymap3ds(lat, lon, north_deg, east_deg, altitude_m):
    there = np.array([lat + north_deg, lon + east_deg])
    expected = pymap3d.geodetic2enu(*there, altitude_m, lat, lon, 0.0)
    np.testing.assert_allclose(geodesy.degrees_to_enu(there, altitude_m, (lat, lon)), expected, atol=1e-6)
    np.testing.assert_allclose(
        geodesy.degrees_to_local(there, (lat, lon)), pymap3d.geodetic2enu(*there, 0.0, lat, lon, 0.0)[:2], atol=1e-6
    )


@settings(deadline=None, max_examples=100)
@given(latitude, longitude, st.floats(-300_000, 300_000), st.floats(-300_000, 300_000))
def test_local_to_degrees_and_back(lat, lon, east_m, north_m):
    """To a micrometre, and on the ellipsoid: pymap3d finds no height there."""
    position_m = np.array([east_m, north_m])
    place_deg = geodesy.local_to_degrees(position_m, (lat, lon))
    np.testing.assert_allclose(geodesy.degrees_to_local(place_deg, (lat, lon)), position_m, atol=1e-6)
    up_m = geodesy.degrees_to_enu(place_deg, 0.0, (lat, lon))[2]
    _, _, height_m = pymap3d.enu2geodetic(east_m, north_m, up_m, lat, lon, 0.0)
    assert abs(height_m) < 1e-5


def test_signs_east_is_east_and_north_is_north():
    origin = (45.0, 7.0)
    east, north = geodesy.degrees_to_local(np.array([[45.0, 7.1], [45.1, 7.0]]), origin)
    assert east[0] > 7_000 > abs(east[1])
    assert north[1] > 11_000 > abs(north[0])


def test_the_origin_is_the_origin_and_axes_broadcast():
    origin = (45.0, 7.0)
    np.testing.assert_allclose(geodesy.degrees_to_local(np.array(origin), origin), [0.0, 0.0], atol=1e-9)
    many = np.tile(PLACES[0], (2, 3, 1))
    local = geodesy.degrees_to_local(many, origin)
    assert local.shape == (2, 3, 2)
    np.testing.assert_allclose(geodesy.local_to_degrees(local, origin), many, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(latitude, longitude, st.floats(-1, 1), st.floats(-1, 1))
def test_ground_distance_is_vincentys_geodesic(lat, lon, north_deg, east_deg):
    """Up to 140 km. The chord is exact; one radius of curvature for all azimuths errs by 0.5 % of the arc's 1e-5."""
    there = (lat + north_deg * 0.9, lon + east_deg * 0.9)
    expected = float(np.asarray(pymap3d.vincenty.vdist(lat, lon, *there)[0]).squeeze())
    got = geodesy.ground_distance_m(np.array([lat, lon]), np.array(there))
    assert float(got) == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_ground_distance_is_symmetric_and_zero_at_home():
    a, b = PLACES[:, None], PLACES[None]
    distance = geodesy.ground_distance_m(a, b)
    np.testing.assert_allclose(distance, distance.T)
    np.testing.assert_allclose(np.diag(distance), 0.0)


def test_local_to_degrees_in_jax_float64_is_numpys():
    """The exported graph takes this path, with xp = jax.numpy."""
    position_m = np.array([[12_345.6, -65_432.1], [0.0, 0.0]])
    with jax.enable_x64(True):
        got = jax.jit(lambda x: geodesy.local_to_degrees(x, (45.044, 7.672), xp=jnp))(jnp.asarray(position_m))
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(np.asarray(got), geodesy.local_to_degrees(position_m, (45.044, 7.672)), atol=1e-11)


@settings(deadline=None, max_examples=40)
@given(latitude, longitude, st.floats(-200_000, 200_000), st.floats(-200_000, 200_000))
def test_ground_height_is_pymap3ds(lat, lon, east_m, north_m):
    place_deg = geodesy.local_to_degrees(np.array([east_m, north_m]), (lat, lon))
    expected = pymap3d.geodetic2enu(*place_deg, 0.0, lat, lon, 0.0)[2]
    got = geodesy.ground_height_m(np.array([east_m, north_m]), (lat, lon))
    assert float(got) == pytest.approx(expected, abs=1e-5)


def test_ground_height_keeps_millimetres_in_float32():
    """At 100 km the ground is 785 m under the plane (d^2 / 2R)."""
    position_m, origin = np.array([100_000.0, 0.0]), (45.0, 7.0)
    exact = geodesy.ground_height_m(position_m, origin)
    single = geodesy.ground_height_m(jnp.asarray(position_m, jnp.float32), origin, xp=jnp)
    assert float(exact) == pytest.approx(-(100e3**2) / 2 / 6.388e6, rel=2e-3)
    assert float(single) == pytest.approx(float(exact), abs=5e-3)


def test_ground_height_of_columns_is_that_of_rows():
    rows, origin = np.random.default_rng(0).normal(0, 1e5, (5, 2)), (45.0, 7.0)
    columns = geodesy.ground_height_m(rows.T, origin, axis=0, keepdims=True)
    np.testing.assert_allclose(columns, geodesy.ground_height_m(rows, origin)[None], rtol=1e-12)


def test_offsets_in_degrees_are_local_metres():
    """Against the exact conversion, 250 km around; float32 keeps metres because the offsets are small numbers."""
    offset = np.random.default_rng(0).uniform(-2, 2, (500, 2))
    for origin in ((44.94, 8.07), (-33.9, 151.2)):
        exact = geodesy.degrees_to_local(offset + origin, origin)
        np.testing.assert_allclose(geodesy.offset_to_local(offset, origin), exact, atol=0.5)
        single = geodesy.offset_to_local(jnp.asarray(offset, jnp.float32), origin, jnp)
        np.testing.assert_allclose(single, exact, atol=0.6)


@pytest.mark.parametrize("azimuth_deg", [0.0, 30.0, 90.0, 135.0])
def test_an_error_ellipse_has_the_axes_it_was_made_of(azimuth_deg):
    """68 %: sqrt(-2 ln 0.32) = 1.50959 sigma; 95 %: 2.44775 (chi-square of two)."""
    along = np.array([np.sin(np.deg2rad(azimuth_deg)), np.cos(np.deg2rad(azimuth_deg))])
    across = np.array([along[1], -along[0]])
    covariance = 300.0**2 * np.outer(along, along) + 40.0**2 * np.outer(across, across)
    for probability, sigmas in ((0.68, 1.50959), (0.95, 2.44775)):
        ellipse = geodesy.error_ellipse(covariance, probability)
        assert ellipse.semi_major_m == pytest.approx(300 * sigmas, rel=1e-5)
        assert ellipse.semi_minor_m == pytest.approx(40 * sigmas, rel=1e-5)
        assert abs((ellipse.azimuth_deg - azimuth_deg + 90) % 180 - 90) < 1e-6
        assert 0 <= ellipse.azimuth_deg < 180


def test_an_error_radius_is_rayleighs_where_round_and_normal_where_thin():
    """Rayleigh: 1.50959 sigma hold 68 %; a line: 0.994458 (SciPy 1.15, norm.ppf(0.84))."""
    covariances = np.stack([9.0 * np.eye(2), np.diag([1e4, 1e-6])])
    np.testing.assert_allclose(geodesy.error_radius_m(covariances, 0.68), [3 * 1.50959, 99.4458], rtol=1e-4)


@pytest.mark.parametrize("ratio", [1.0, 3.0, 30.0, 500.0])
@pytest.mark.parametrize("probability", [0.5, 0.95])
def test_a_circle_of_the_error_radius_holds_its_probability(ratio, probability):
    """The density over vertical chords of the circle, whose own integral is closed, by SciPy."""
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    major, minor = 40.0, 40.0 / ratio
    radius = float(geodesy.error_radius_m(turn @ np.diag([major**2, minor**2]) @ turn.T, probability))

    def chord(angle):
        x, half = radius * np.sin(angle), radius * np.cos(angle)
        return half * norm.pdf(x, scale=major) * (2 * norm.cdf(half, scale=minor) - 1)

    held = quad(chord, -np.pi / 2, np.pi / 2, limit=400, points=[-1.5, 1.5])[0]
    assert held == pytest.approx(probability, abs=2e-4)


def test_covariances_turn_by_the_convergence_of_meridians():
    """By the longitude's difference times the sine of the latitude: 3.5 degrees at 49 give 2.64."""
    origin, there = (49.0, 5.5), (49.0, 9.0)
    position_m = geodesy.degrees_to_local(np.array(there), origin)
    turned = geodesy.covariance_at(np.diag([100.0**2, 10.0**2]), position_m, origin)
    ellipse = geodesy.error_ellipse(turned, 0.68)
    # Walking east along the parallel, north at the point has turned to the left: the same direction reads larger.
    assert ellipse.azimuth_deg == pytest.approx(90 + 3.5 * np.sin(np.deg2rad(49)), abs=0.05)
    np.testing.assert_allclose(geodesy.covariance_at(turned, np.zeros(2), origin), turned, rtol=1e-6)


@pytest.mark.parametrize(
    ("covariance", "probability"),
    [(np.eye(3), 0.5), (np.diag([1.0, -1.0]), 0.5), (np.eye(2) * np.nan, 0.5), (np.eye(2), 1.0), (np.eye(2), 0.0)],
)
def test_no_covariance_has_no_ellipse(covariance, probability):
    for ask in (geodesy.error_ellipse, geodesy.error_radius_m):
        with pytest.raises(DataError, match="covariance"):
            ask(covariance, probability)


def azimuth_deg(east_north):
    return np.rad2deg(np.arctan2(east_north[..., 0], east_north[..., 1])) % 360


def test_the_azimuthal_map_keeps_distance_and_direction_from_its_middle():
    """Vincenty's geodesics. An arc of constant radius errs by 0.3 % at worst over thousands of km."""
    there = np.array([[46.0, 9.5], [40.0, -3.0], [60.0, 40.0], [0.0, 30.0]])
    distance_m, azimuth = pymap3d.vincenty.vdist(45.0, 7.0, *there.T)
    on_map = geodesy.degrees_to_azimuthal(there, (45.0, 7.0))
    np.testing.assert_allclose(np.linalg.norm(on_map, axis=-1), distance_m, rtol=3e-3)
    np.testing.assert_allclose(azimuth_deg(on_map), azimuth, atol=0.2)
    np.testing.assert_array_equal(geodesy.degrees_to_azimuthal(np.array([45.0, 7.0]), (45.0, 7.0)), [0.0, 0.0])


@settings(deadline=None, max_examples=60)
@given(latitude, longitude, st.floats(0, 8_900_000), st.floats(0, 2 * np.pi))
def test_the_azimuthal_map_there_and_back(lat, lon, away_m, angle):
    position_m = away_m * np.array([np.sin(angle), np.cos(angle)])
    back_m = geodesy.degrees_to_azimuthal(geodesy.azimuthal_to_degrees(position_m, (lat, lon)), (lat, lon))
    np.testing.assert_allclose(back_m, position_m, atol=0.01)


def test_web_mercator_is_the_one_of_web_maps():
    """EPSG:3857's example point (IOGP guidance note 7-2): 24 22 54.433 N, 100 20 00 W; and a square world."""
    place = np.array([24 + 22 / 60 + 54.433 / 3600, -(100 + 20 / 60)])
    np.testing.assert_allclose(geodesy.degrees_to_web_mercator(place), [-11_169_055.58, 2_800_000.00], atol=0.01)
    np.testing.assert_allclose(geodesy.web_mercator_to_degrees(geodesy.degrees_to_web_mercator(PLACES)), PLACES)
    corner = geodesy.web_mercator_to_degrees(np.array([geodesy.WEB_MERCATOR_EDGE_M, geodesy.WEB_MERCATOR_EDGE_M]))
    np.testing.assert_allclose(corner, [85.05112878, 180.0], atol=1e-8)
