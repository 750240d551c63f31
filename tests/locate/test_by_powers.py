"""A transmitter placed by its powers alone, from recordings of made-up gains."""

import numpy as np
import pytest

from heimdall_jax.evaluation.fix_words import in_words
from heimdall_jax.geodesy import degrees_to_local, ground_distance_m
from heimdall_jax.locate.arguments import LocateArguments
from heimdall_jax.locate.find import find
from tests.locate.made_up import PLACES, transmission, write_npy

CLOCK = {"sigma_s": 0.01}
"""Useless for times, and good for powers."""
NEAR = (44.62, 8.14)
"""Seven kilometres from PG: where the powers say that the transmitter is."""


@pytest.fixture(scope="module")
def gain_db():
    """Of a law of exponent 3, without shadowing, the nearest receiver at full level."""
    away_m = {name: float(ground_distance_m(np.array(place), np.array(NEAR))) for name, place in PLACES.items()}
    return {name: -30 * np.log10(away / min(away_m.values())) for name, away in away_m.items()}


@pytest.fixture(scope="module")
def found(tmp_path_factory, gain_db):
    paths = write_npy(tmp_path_factory.mktemp("powers"), transmission(gain_db=gain_db, **CLOCK))
    return find(LocateArguments(paths, method="rss"))


def test_powers_are_those_that_were_sent(found, gain_db):
    measured = found.more["powers_db"]
    assert measured.keys() == PLACES.keys()
    for name in PLACES:
        assert measured[name] - measured["TO"] == pytest.approx(gain_db[name] - gain_db["TO"], abs=0.3)
    assert max(measured.values()) == pytest.approx(10 * np.log10(0.04), abs=0.5)


def test_the_region_is_large_and_holds_the_truth(found):
    assert found.located
    off_m = degrees_to_local(np.array(NEAR), found.fix.place_deg)
    assert off_m @ np.linalg.solve(found.fix.covariance_m2, off_m) < 2.28  # 68 %
    assert 3e3 < found.fix.radius_68_m < 90e3
    assert any("gains must be alike" in note for note in found.notes)
    assert [curve.kind for curve in found.curves] == ["ring"] * 5


def test_the_nearest_place_of_a_further_receiver_helps_most(found):
    """Powers change by decibels per decade of distance: the information is largest at the transmitter's side."""
    advice = found.advice
    assert advice.then_m < 0.7 * advice.now_m
    assert advice.distance_m < 20e3


def test_receivers_without_a_signal_are_refused(tmp_path, gain_db):
    paths = write_npy(tmp_path, transmission(gain_db=gain_db | {"MI": -90.0}, **CLOCK))
    found = find(LocateArguments(paths, method="rss"))
    (refused,) = found.refused
    assert refused["name"] == "MI"
    assert refused["reason"].startswith("no signal above its noise")
    assert "MI" not in found.used
    assert "MI" not in found.more["powers_db"]


def test_noise_alone_places_nothing(tmp_path):
    """Equal noise at all receivers would be equal powers, and so a place in their middle."""
    paths = write_npy(tmp_path, transmission(gain_db=dict.fromkeys(PLACES, -200.0), **CLOCK))
    found = find(LocateArguments(paths, method="rss"))
    assert not found.located
    assert found.fix is None
    assert found.reasons[0].startswith("too few receivers: 0 usable")
    told = in_words(found.to_tree())
    assert told.count("TO: no signal above its noise") == 1  # among the reasons, and not again among the refused
    assert "noise alone fills" in told
