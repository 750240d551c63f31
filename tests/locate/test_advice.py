"""Which further receiver would help most, against a Fisher information that is inverted with its nuisance."""

import numpy as np
import pytest

from heimdall_jax import geodesy
from heimdall_jax.locate.advice import Layout, advise
from heimdall_jax.locate.by_model import advice_by_clocks
from heimdall_jax.locate.by_times import timing_layout
from heimdall_jax.locate.found import Fix
from heimdall_jax.sources.kinds import Supplied, read_receptions
from heimdall_jax.sources.receptions import together
from heimdall_jax.types import Station
from tests.locate.made_up import RATE_HZ, TRANSMITTER, transmission, write_npy

C = geodesy.SPEED_OF_LIGHT_M_PER_S
ORIGIN = (45.0, 8.0)
SIGMA_S = 1e-6
REACH_M = 200e3
LINE_M = np.array([[-50e3, 0.0], [0.0, 0.0], [50e3, 0.0]])
"""Receivers west to east: they know north badly."""


def lifted(place_m: np.ndarray) -> np.ndarray:
    return np.concatenate([place_m, geodesy.ground_height_m(place_m, ORIGIN)[:, None]], axis=1)


def layout(receiver_m: np.ndarray, place_m: tuple[float, float] | None) -> Layout:
    place_deg = None
    if place_m is not None:
        latitude, longitude = geodesy.local_to_degrees(np.array(place_m), ORIGIN).tolist()
        place_deg = (latitude, longitude)
    return timing_layout(lifted(receiver_m), np.full(len(receiver_m), SIGMA_S**2), place_deg, ORIGIN, REACH_M)


def radius_m(receiver_m: np.ndarray, place_m: tuple[float, float]) -> float:
    """By the 3 x 3 information of place and time of sending, the prior added, in the plane."""
    away = np.array(place_m) - receiver_m
    slope = away / np.linalg.norm(away, axis=1)[:, None] / C
    each = np.concatenate([slope, np.ones((len(slope), 1))], axis=1)
    information = each.T @ each / SIGMA_S**2 + np.diag([REACH_M**-2, REACH_M**-2, 0.0])
    return float(geodesy.error_radius_m(np.linalg.inv(information)[:2, :2], 0.68))


def test_bounds_are_those_of_the_whole_information():
    place_m = (10e3, 40e3)
    advice = advise(layout(LINE_M, place_m), [])
    there_m = geodesy.degrees_to_local(np.array([advice.place_deg]), ORIGIN)
    assert advice.now_m == pytest.approx(radius_m(LINE_M, place_m), rel=1e-3)
    assert advice.then_m == pytest.approx(radius_m(np.concatenate([LINE_M, there_m]), place_m), rel=1e-3)
    assert (advice.station, advice.to_tree()["station"]) == (None, None)


def test_no_place_on_the_rings_is_much_better_than_the_advised():
    place_m = np.array([10e3, 40e3])
    advice = advise(layout(LINE_M, (10e3, 40e3)), [])
    others = []
    for bearing in range(0, 360, 5):
        for share in (0.2, 0.5, 0.9):
            turn = bearing / 180 * np.pi
            new_m = place_m + 50e3 * share * np.array([np.sin(turn), np.cos(turn)])
            others.append(radius_m(np.concatenate([LINE_M, new_m[None]]), (10e3, 40e3)))
    assert advice.then_m <= min(others) * 1.03  # a hundredth is given for nearness, bearings are 15 degrees apart
    assert advice.then_m < 0.6 * advice.now_m
    off_m = geodesy.degrees_to_local(np.array(advice.place_deg), ORIGIN) - place_m
    assert np.linalg.norm(off_m) == pytest.approx(advice.distance_m, rel=1e-6)
    turn = advice.bearing_deg / 180 * np.pi
    np.testing.assert_allclose(off_m / advice.distance_m, [np.sin(turn), np.cos(turn)], atol=1e-6)


def test_of_known_stations_the_one_out_of_line_is_named():
    stations = {
        name: Station(name, *geodesy.local_to_degrees(np.array(place_m), ORIGIN).tolist())
        for name, place_m in {"in line": (25e3, 1e3), "beyond": (10e3, 90e3), "far east": (150e3, 0.0)}.items()
    }
    advice = advise(layout(LINE_M, (10e3, 40e3)), list(stations.values()))
    assert advice.station == stations["beyond"]
    best = np.concatenate([LINE_M, [[10e3, 90e3]]])
    assert advice.station_then_m == pytest.approx(radius_m(best, (10e3, 40e3)), rel=1e-3)
    assert advice.to_tree()["station"] == {
        "name": "beyond",
        "latitude": stations["beyond"].latitude_deg,
        "longitude": stations["beyond"].longitude_deg,
        "radius_68_m": advice.station_then_m,
    }


@pytest.mark.parametrize("count", [1, 2])
def test_without_a_best_guess_places_about_the_receivers_are_taken(count):
    """One receiver alone knows nothing but the prior; a third one makes a fix of two."""
    advice = advise(layout(LINE_M[:count], None), [])
    assert advice.then_m <= advice.now_m * (1 + 1e-9)
    assert 0 < advice.then_m < 400e3  # 1.51 times the prior's 200 km, and a little for the plane's own


def test_a_model_that_knows_more_than_clocks_do_gets_no_advice_by_them(tmp_path):
    """With a millisecond, 300 km, a fix of a model is of powers: clocks' bound is no word on it."""
    sure = Fix(TRANSMITTER, np.eye(2) * 20e3**2)
    for sigma_s, helped in ((1e-3, False), (50e-9, True)):
        paths = write_npy(tmp_path / str(sigma_s), transmission(sigma_s=sigma_s))
        recordings = together(read_receptions(paths, Supplied())[0], sample_rate_hz=RATE_HZ, window_s=0.5)
        advice = advice_by_clocks(recordings, recordings[0].heard_R, sure, [])
        assert (advice is not None) == helped
        assert advice is None or advice.then_m < advice.now_m < sure.radius_68_m
