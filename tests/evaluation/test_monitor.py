"""The watch on receivers, on a small made-up map: predictions against brute force, and who is found."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from heimdall_jax.evaluation.faults import KINDS, exchanged, inject, partner_of
from heimdall_jax.evaluation.monitor import FEWEST, NEAREST_M, MapTables, cured, leave_one_out, watch
from heimdall_jax.models import radio_map
from heimdall_jax.propagation import NO_FLOOR_DB, NOISE_DB, reading_db

RECEIVERS, SIDE, STEP_M = 9, 12, 100.0
RNG = np.random.default_rng(0)
PLACES_M = np.stack(np.meshgrid(*[np.arange(SIDE) * STEP_M] * 2), axis=-1).reshape(-1, 2)
STANDS_M = RNG.uniform(0, SIDE * STEP_M, (RECEIVERS, 2))
OFFSET_DB = 2.0


def law_db(places_m, stand_m):
    return -40.0 - 30.0 * np.log10(np.maximum(np.hypot(*(places_m - stand_m).T), 20.0))


def field_db():
    """What one receiver's surroundings add at each place: waves that no other has."""
    waves = RNG.uniform(0.5, 1.5, (4, 2)) * 2 * np.pi / (SIDE * STEP_M)
    return 4.0 * np.sin(PLACES_M @ waves.T + RNG.uniform(0, 2 * np.pi, 4)).sum(axis=1)


MEAN_DB = np.stack([np.zeros(len(PLACES_M)), *(law_db(PLACES_M, stand) + field_db() for stand in STANDS_M)])
TABLES = MapTables(
    places_m=PLACES_M,
    mean_db=MEAN_DB,
    own_db2=RNG.uniform(4.0, 9.0, MEAN_DB.shape),
    mapped=np.array([False, *[True] * (RECEIVERS - 1), False]),  # the last moves and has no map
    about_law_db=np.full(RECEIVERS + 1, 8.0),
    bias_db=np.full(RECEIVERS + 1, -40.0),
    floor_db=np.full(RECEIVERS + 1, NO_FLOOR_DB),
    exponent=3.0,
    shared_db2=np.full(len(PLACES_M), OFFSET_DB**2),
    temperature=1.0,
)


def recorded(count, seed):
    rng = np.random.default_rng(seed)
    cell = rng.integers(len(PLACES_M), size=count)
    heard = rng.random((count, RECEIVERS)) < 0.9
    own_db = np.sqrt(TABLES.own_db2[1:, cell].T) * rng.standard_normal(heard.shape)
    rss_db = MEAN_DB[1:, cell].T + OFFSET_DB * rng.standard_normal((count, 1)) + own_db
    return {
        "rss_db": np.where(heard, rss_db, 0.0).astype(np.float32),
        "receiver_m": np.tile(STANDS_M.astype(np.float32), (count, 1, 1)),
        "heard": heard,
        "present": np.ones_like(heard),
        "identity": np.tile(np.arange(1, RECEIVERS + 1, dtype=np.int32), (count, 1)),
    }


def columns_of(findings):
    return {column for finding in findings for column in (finding.receiver, finding.partner)}


def test_the_law_begins_at_the_distance_of_the_model():
    assert NEAREST_M == radio_map.NEAREST_M


def test_a_reading_is_predicted_as_brute_force_conditions_normals():
    """Given cell g, readings are normal with covariance diag(v) + S; the others weigh g and condition r's reading."""
    samples, trusted = recorded(3, seed=1), np.arange(RECEIVERS) != 2
    tables = TABLES._replace(temperature=1.7)
    predicted = leave_one_out(samples, tables, trusted)
    mean_db, own_db2 = MEAN_DB[1:].copy(), TABLES.own_db2[1:].copy()
    mean_db[-1], own_db2[-1] = law_db(PLACES_M, STANDS_M[-1]), 64.0
    for row, heard in enumerate(samples["heard"]):
        for r in np.flatnonzero(heard & trusted):
            others = np.flatnonzero(heard & trusted & (np.arange(RECEIVERS) != r))
            read_db = samples["rss_db"][row, others].astype(np.float64)
            log_fit, at_db, spread_db2 = np.zeros((3, len(PLACES_M)))
            for g in range(len(PLACES_M)):
                covariance = np.diag(own_db2[others, g]) + OFFSET_DB**2
                log_fit[g] = multivariate_normal.logpdf(read_db, mean_db[others, g], covariance)
                gain = np.linalg.solve(covariance, np.full(len(others), OFFSET_DB**2))
                at_db[g] = mean_db[r, g] + gain @ (read_db - mean_db[others, g])
                spread_db2[g] = own_db2[r, g] + OFFSET_DB**2 - OFFSET_DB**2 * gain.sum()
            weight = np.exp((log_fit - log_fit.max()) / 1.7)
            weight /= weight.sum()
            mean = weight @ at_db
            assert predicted.mean_db_NR[row, r] == pytest.approx(mean, abs=1e-3)
            assert predicted.variance_db2_NR[row, r] == pytest.approx(weight @ (spread_db2 + (at_db - mean) ** 2), 1e-4)


def test_near_its_noise_a_reading_is_predicted_as_drawn_ones_spread():
    """Mean and variance by the slope are those of 100,000 readings of signals drawn there, but for what bends."""
    floor_db, rng = -70.0, np.random.default_rng(5)
    tables = TABLES._replace(floor_db=np.full(RECEIVERS + 1, floor_db), own_db2=np.full_like(TABLES.own_db2, 1.0))
    mean_db, variance_db2 = (values[0, :-1] for values in tables.expect(recorded(1, seed=1)))
    for receiver, cell in ((0, 3), (4, 60), (7, 100)):
        signals_db = MEAN_DB[receiver + 1, cell] + rng.standard_normal(100_000)
        drawn_db = reading_db(signals_db, floor_db + NOISE_DB * rng.standard_normal(100_000), np)
        assert mean_db[receiver, cell] == pytest.approx(drawn_db.mean(), abs=0.15)
        assert variance_db2[receiver, cell] == pytest.approx(drawn_db.var(), rel=0.15)
        assert mean_db[receiver, cell] > MEAN_DB[receiver + 1, cell]


@pytest.mark.parametrize("seed", range(5))
def test_sound_receivers_are_left_alone(seed):
    assert watch(recorded(60, seed), TABLES) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("receiver", range(RECEIVERS - 1))
def test_the_receiver_that_fails_is_found_and_no_other(kind, receiver):
    samples = recorded(80, seed=3)
    findings = watch(inject(samples, kind, receiver), TABLES)
    swapped = kind == "swapped"
    assert columns_of(findings) == {receiver, partner_of(samples["heard"], receiver) if swapped else receiver}
    assert [finding.kind for finding in findings] == [kind if kind in ("frozen", "swapped") else "shifted"]
    if kind.startswith("20 dB"):
        assert findings[0].level_db == pytest.approx(20.0 if kind == "20 dB up" else -20.0, abs=3.0)


def test_the_cure_undoes_a_swap_and_leaves_a_shifted_receiver_out():
    samples = recorded(80, seed=4)
    swapped = exchanged(samples, 0, 3)
    undone = cured(swapped, watch(swapped, TABLES))
    for key in ("rss_db", "heard", "present"):
        np.testing.assert_array_equal(undone[key], samples[key])
    shifted = inject(samples, "20 dB up", 2)
    left = cured(shifted, watch(shifted, TABLES))
    assert not left["heard"][:, 2].any()
    np.testing.assert_array_equal(np.delete(left["heard"], 2, axis=1), np.delete(samples["heard"], 2, axis=1))


def test_a_receiver_that_heard_too_rarely_is_not_judged():
    samples = recorded(60, seed=5)
    samples["heard"][FEWEST - 1 :, 1] = False
    samples["heard"][: FEWEST - 1, 1] = True
    assert watch(inject(samples, "20 dB up", 1), TABLES) == []
    samples["heard"][:FEWEST, 1] = True
    samples["rss_db"][FEWEST - 1, 1] = recorded(60, seed=5)["rss_db"][FEWEST - 1, 1]
    assert columns_of(watch(inject(samples, "20 dB up", 1), TABLES)) == {1}


def test_a_transmitter_that_stands_still_freezes_nobody():
    samples = recorded(40, seed=6)
    still = {key: np.repeat(value[:1], 40, axis=0) for key, value in samples.items()}
    still["heard"][:] = True
    still["rss_db"] = (MEAN_DB[1:, 70] + np.random.default_rng(7).normal(0, 1.0, (40, RECEIVERS))).astype(np.float32)
    assert watch(still, TABLES) == []
