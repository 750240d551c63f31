"""Recordings compared pair by pair in float64, and a density of the place that is one."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.models.fingerprints import Fingerprints

KNOWN, ROOM, COUNT = 4, 9, 7


def recorded(seed=0):
    """Tables (KNOWN, ROOM) of which the last columns are empty; a receiver stands where it stood, or has moved."""
    rng = np.random.default_rng(seed)
    counts = np.arange(ROOM) < COUNT
    present = (rng.random((KNOWN, ROOM)) < 0.75) & counts
    heard = present & (rng.random((KNOWN, ROOM)) < 0.75)
    stood_m = 300.0 * np.arange(KNOWN)[:, None, None] + rng.choice([0.0, 25.0, 50.0, 500.0], (KNOWN, ROOM, 2))
    tables = {
        "rss_db": np.where(heard, rng.normal(-80, 12, heard.shape), 0.0),
        "heard": heard,
        "present": present,
        "east_m": np.where(present, stood_m[..., 0], 0.0),
        "north_m": np.where(present, stood_m[..., 1], 0.0),
        "place_m": rng.uniform(-300, 300, (ROOM, 2)),
        "counts": counts,
    }
    return {name: np.asarray(value, np.float64) for name, value in tables.items()}


def asked(batch=40, rows=6, seed=1):
    """Recordings whose receivers come in any order, with unknown ones among them; NaN where nothing was read."""
    rng = np.random.default_rng(seed)
    identity = np.stack([rng.permutation([0, 0, 1, 2, 3, 4])[:rows] for _ in range(batch)])
    present = rng.random((batch, rows)) < 0.8
    heard = present & (rng.random((batch, rows)) < 0.75)
    stand_m = 300.0 * (identity[..., None] - 1) + rng.choice([0.0, 25.0, 50.0, 500.0], (batch, rows, 2))
    return {
        "rss_db": np.where(heard, rng.normal(-80, 12, heard.shape), np.nan).astype(np.float32),
        "receiver_m": np.where(present[..., None], stand_m, np.nan).astype(np.float32),
        "heard": heard,
        "present": present,
        "identity": identity.astype(np.int32),
    }


def against(one, tables, recording):
    """What the module's docstring says, for one pair, receiver by receiver."""
    total = 0.0
    for receiver in range(1, KNOWN + 1):
        rows = [r for r in range(len(one["identity"])) if one["identity"][r] == receiver and one["present"][r]]
        then = {name: tables[name][receiver - 1, recording] for name in ("rss_db", "heard", "present")}
        if not rows or not then["present"]:
            total += 2.0 * (bool(rows) != bool(then["present"]))
            continue
        (row,) = rows
        stood_m = [tables[name][receiver - 1, recording] for name in ("east_m", "north_m")]
        apart = math.dist(one["receiver_m"][row], stood_m) ** 2 / 60**2
        total += min(apart, 3.0)
        if one["heard"][row] and then["heard"]:
            total += min((one["rss_db"][row] - then["rss_db"]) ** 2 / 64, 9.0) if apart < 1 else 0.0
        elif one["heard"][row] or then["heard"]:
            total += 1.0
    return total


def filled(tables, **values):
    net = Fingerprints(KNOWN, ROOM)
    net.fill(tables | values)
    return net


def mismatch(net, samples):
    return np.asarray(net.mismatch(**{name: jnp.asarray(value) for name, value in samples.items()}))


def test_what_speaks_against_a_recording_is_the_loop_over_pairs():
    tables, samples = recorded(), asked()
    found = mismatch(filled(tables), samples)
    for number in range(len(found)):
        one = {name: value[number] for name, value in samples.items()}
        wanted = [against(one, tables, recording) for recording in range(COUNT)]
        np.testing.assert_allclose(found[number, :COUNT], wanted, rtol=1e-4, atol=1e-4)


def alone(rss_db=-80.0, *, east_m=0.0, heard=True, present=True, identity=1):
    """One transmission that one receiver may have heard."""
    values = {
        "rss_db": np.float32(rss_db if heard else np.nan),
        "receiver_m": np.array([east_m if present else np.nan, 0.0], np.float32),
        "heard": np.bool_(heard),
        "present": np.bool_(present),
        "identity": np.int32(identity),
    }
    return {name: np.asarray(value)[None, None] for name, value in values.items()}


@pytest.mark.parametrize(
    ("samples", "wanted"),
    [
        (alone(), 0.0),
        (alone(-72.0), 1.0),  # 8 dB off
        (alone(-20.0), 9.0),  # far off: the limit
        (alone(east_m=30.0), 0.25),
        (alone(-72.0, east_m=30.0), 1.25),
        (alone(-72.0, east_m=90.0), 2.25),  # it moved: its reading says nothing
        (alone(east_m=5000.0), 3.0),  # the limit
        (alone(heard=False), 1.0),
        (alone(present=False, heard=False), 2.0),
        (alone(present=False, heard=True), 2.0),  # whatever is claimed of one that was not there
        (alone(identity=0), 2.0),  # another receiver is in its place
    ],
)
def test_one_receiver_by_hand(samples, wanted):
    net = Fingerprints(1, 1)
    net.fill({"rss_db": [-80.0], "heard": [1.0], "present": [1.0], "counts": [1.0]})
    assert mismatch(net, samples)[0, 0] == pytest.approx(wanted, abs=1e-5)


def test_the_order_of_receivers_and_unknown_ones_change_nothing():
    net, samples = filled(recorded()), asked()
    found = mismatch(net, samples)
    turned = {name: value[:, ::-1] for name, value in samples.items()}
    np.testing.assert_allclose(mismatch(net, turned), found, rtol=1e-5)
    known = {name: value.copy() for name, value in samples.items()}
    known["present"] &= known["identity"] > 0
    known["heard"] &= known["present"]
    np.testing.assert_allclose(mismatch(net, known), found, rtol=1e-5)


CELL_M = 50.0
EAST_M, NORTH_M = np.arange(-1000, 1001, CELL_M), np.arange(-800, 801, CELL_M)


def log_density(net, speaks_against):
    axes = (jnp.asarray(axis, jnp.float32) for axis in (EAST_M, NORTH_M))
    return np.asarray(net.log_density(jnp.asarray(speaks_against, jnp.float32), *axes, CELL_M), np.float64)


def test_the_density_is_one_and_that_of_a_loop():
    """In cells as large as the spread, a mean over each: 40 times 40 points of it stand for the integral."""
    tables = recorded()
    net = filled(tables, temperature=0.7, spread_m=45.0)
    speaks_against = np.random.default_rng(2).uniform(0, 12, (3, ROOM))
    found = log_density(net, speaks_against)
    np.testing.assert_allclose(np.exp(found).sum(axis=1) * CELL_M**2, 1.0, rtol=1e-4)
    fine = (np.arange(40) + 0.5) / 40 * CELL_M - CELL_M / 2
    weight = np.exp(-speaks_against[:, :COUNT] / (2 * 0.7))
    weight /= weight.sum(axis=1, keepdims=True)
    area_m2 = len(EAST_M) * len(NORTH_M) * CELL_M**2
    for column, row in ((20, 16), (14, 20), (25, 11), (0, 0)):
        total = np.zeros(3)
        for recording in range(COUNT):
            along = [
                np.exp(-0.5 * ((axis[at] + fine - x_m) / 45.0) ** 2) / math.sqrt(2 * math.pi) / 45.0
                for axis, at, x_m in zip((EAST_M, NORTH_M), (column, row), tables["place_m"][recording], strict=True)
            ]
            total += weight[:, recording] * along[0].mean() * along[1].mean()
        wanted = np.log(0.99 * total + 0.01 / area_m2)
        np.testing.assert_allclose(found[:, row * len(EAST_M) + column], wanted, atol=2e-3)


def test_empty_room_weighs_nothing():
    """Whatever stands there, and even if it fits best of all; a smaller net without it says the same."""
    tables = recorded()
    speaks_against = np.random.default_rng(2).uniform(5, 60, (3, ROOM))
    speaks_against[:, COUNT:] = 0.0
    small = Fingerprints(KNOWN, COUNT)
    small.fill({name: value[..., :COUNT] if name != "place_m" else value[:COUNT] for name, value in tables.items()})
    wanted = log_density(small, speaks_against[:, :COUNT])
    np.testing.assert_allclose(log_density(filled(tables), speaks_against), wanted, atol=1e-4)
    full = log_density(filled(tables, counts=np.ones(ROOM)), speaks_against)
    assert np.abs(full - wanted).max() > 1.0


def test_what_fits_nothing_is_wherever_recordings_were():
    """No receiver known: all weigh alike, so that only their places speak."""
    net = filled(recorded(), spread_m=60.0)
    samples = asked(batch=2)
    samples["identity"][:] = 0
    found = mismatch(net, samples)
    there = recorded()["present"].sum(axis=0)
    np.testing.assert_allclose(found, 2.0 * np.tile(there, (2, 1)), atol=1e-5)  # ABSENT for each that is missing
