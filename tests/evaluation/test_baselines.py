"""Classical estimators: closed forms, symmetries, and the published numbers on POWDER."""

import numpy as np
import pytest

from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.evaluation import baselines
from heimdall_jax.evaluation.baselines import BASELINES, SIMPLE, TIMING_KEYS, baseline_errors_m, possible, predict
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.sources.powder import read_powder
from heimdall_jax.sources.splits import held_out

ORIGIN = (40.766, -111.84)


def walk(count=200, seed=0, receivers=6):
    """Transmitters in a square kilometre; power falls by 30 dB a decade of distance, 2 dB noise; times within 50 ns."""
    rng = np.random.default_rng(seed)
    receiver_m = np.random.default_rng(99).uniform(-500, 500, (receivers, 2))
    position_m = rng.uniform(-500, 500, (count, 2))
    distance = np.linalg.norm(position_m[:, None] - receiver_m, axis=-1)
    heard = rng.random((count, receivers)) < 0.8
    power = -20 - 30 * np.log10(distance + 1) + rng.normal(0, 2, distance.shape)
    arrival = distance / 299_792_458.0 + rng.normal(0, 50e-9, distance.shape)
    both = heard[:, :, None] & heard[:, None] & ~np.eye(receivers, dtype=bool)
    return {
        "tdoa_s": np.where(both, arrival[:, :, None] - arrival[:, None], 0.0).astype(np.float32),
        "timing_valid": both,
        "arrival_precision_per_s2": np.where(heard, 1 / 30e-9**2, 0.0).astype(np.float32),
        "clock_sigma_s": np.full(heard.shape, 40e-9, np.float32),
        "receiver_up_m": np.zeros(heard.shape, np.float32),
        "rss_db": np.where(heard, power, 0.0).astype(np.float32),
        "receiver_m": np.tile(receiver_m, (count, 1, 1)).astype(np.float32),
        "heard": heard,
        "present": np.ones_like(heard),
        "identity": np.tile(np.arange(1, receivers + 1, dtype=np.int32), (count, 1)),
        "position_m": position_m.astype(np.float32),
        "weight": np.ones(count, np.float32),
    }


def changed(samples, **columns):
    return {**samples, **columns}


def test_prior_mean_is_the_mean_of_labelled_training_truths():
    train = walk(10)
    train["weight"][5:] = 0
    np.testing.assert_allclose(
        predict("prior_mean", train, walk(3)), np.tile(train["position_m"][:5].mean(axis=0), (3, 1)), rtol=1e-6
    )


def test_centroid_of_one_receiver_is_its_place_and_of_none_the_prior_mean():
    train, test = walk(), walk(2, seed=1)
    test["heard"][:] = False
    test["heard"][0, 3] = True
    got = predict("weighted_centroid", train, test)
    np.testing.assert_allclose(got[0], test["receiver_m"][0, 3], rtol=1e-6)
    np.testing.assert_allclose(got[1], train["position_m"].mean(axis=0, dtype=np.float64), rtol=1e-5)


def test_centroid_of_two_at_equal_power_is_half_way_even_at_minus_5000_db():
    train, test = walk(), walk(1, seed=1)
    test["heard"][:] = np.arange(6)[None] < 2
    test["rss_db"][:] = -5000.0
    got = predict("weighted_centroid", train, test)
    np.testing.assert_allclose(got[0], test["receiver_m"][0, :2].mean(axis=0), rtol=1e-5)


def test_five_neighbours_find_a_training_sample_again():
    train = walk()
    again = {key: value[:7] for key, value in train.items()}
    np.testing.assert_allclose(predict("knn5", train, again), train["position_m"][:7], atol=1e-3)


def test_fewer_training_samples_than_neighbours():
    train = walk(2)
    assert np.isfinite(predict("knn5", train, walk(3, seed=1))).all()


@pytest.mark.parametrize("name", BASELINES)
def test_the_order_of_receivers_and_masked_values_change_nothing(name):
    train, test = walk(), walk(20, seed=1)
    order = np.array([3, 1, 5, 0, 4, 2])
    keys = ("rss_db", "receiver_m", "heard", "present", "identity", *TIMING_KEYS)
    shuffled = {key: value[:, order] if key in keys else value for key, value in test.items()}
    for key in ("tdoa_s", "timing_valid"):
        shuffled[key] = shuffled[key][:, :, order]
    shuffled["tdoa_s"] = np.where(shuffled["timing_valid"], shuffled["tdoa_s"], np.float32(np.nan))
    shuffled["rss_db"] = np.where(shuffled["heard"], shuffled["rss_db"], np.float32(123.0))
    expected = predict(name, train, test)
    # Sums in another order, squared and halved: a centimetre of the likelihood's flat top.
    atol = 1e-2 if name in {"log_distance", "tdoa"} else 1e-6
    np.testing.assert_allclose(predict(name, train, shuffled), expected, atol=atol)
    assert np.linalg.norm(expected - test["position_m"], axis=-1).mean() < 450  # 383 is a square's mean distance


def test_times_place_to_metres_and_the_law_better_than_the_centroid():
    """Medians over three seeds: 38 to 45 m by times of 50 ns, 160 to 184 by powers of 2 dB, 240 to 279 by centroid."""
    train, test = walk(), walk(200, seed=1)
    got = {name: np.median(e) for name, e in baseline_errors_m(train, test, SIMPLE, origin_deg=ORIGIN).items()}
    assert got["tdoa"] < 60
    assert got["tdoa"] < got["log_distance"] < 0.8 * got["weighted_centroid"]


def test_what_needs_times_is_left_out_without_them():
    timed = walk(3)
    assert possible(SIMPLE, timed) == SIMPLE
    powers = {key: value for key, value in timed.items() if key not in TIMING_KEYS}
    assert set(BASELINES) - set(possible(BASELINES, powers)) == {"tdoa"}


def test_unknown_receivers_are_left_out_of_power_vectors():
    train, test = walk(), walk(5, seed=1)
    extra = {key: np.concatenate([test[key], test[key][:, :1]], axis=1) for key in ("rss_db", "heard", "present")}
    extra["receiver_m"] = np.concatenate([test["receiver_m"], test["receiver_m"][:, :1]], axis=1)
    extra["identity"] = np.concatenate([test["identity"], np.zeros((5, 1), np.int32)], axis=1)
    np.testing.assert_array_equal(predict("knn5", train, changed(test, **extra)), predict("knn5", train, test))


def test_errors_count_only_test_samples_with_known_truth():
    train, test = walk(), walk(20, seed=1)
    test["weight"][10:] = 0
    test["position_m"][10:] = 1e6
    got = baseline_errors_m(train, test, SIMPLE, origin_deg=ORIGIN)
    assert list(got) == list(SIMPLE)
    assert {error_m.shape for error_m in got.values()} == {(10,)}
    assert got["weighted_centroid"].mean() < got["prior_mean"].mean() < 800


def test_bad_requests_say_what_is_allowed():
    train, test = walk(), walk(5, seed=1)
    with pytest.raises(ConfigError, match="'knn'; allowed: prior_mean"):
        predict("knn", train, test)
    with pytest.raises(DataError, match="none with known truth"):
        predict("knn5", changed(train, weight=np.zeros(200, np.float32)), test)
    with pytest.raises(DataError, match="no known identity"):
        predict("knn5", changed(train, identity=np.zeros((200, 6), np.int32)), test)
    with pytest.raises(DataError, match="leaves test rows"):
        baseline_errors_m(train, changed(test, weight=np.zeros(5, np.float32)), SIMPLE, origin_deg=ORIGIN)


@pytest.fixture(scope="module")
def powder(powder_folder):
    data = read_powder(powder_folder)
    sessions, count = data.sessions, len(data)
    receiver_deg = np.stack([s.receiver_deg_RE for s in sessions])
    samples = {
        "rss_db": np.stack([s.rss_db_R for s in sessions]),
        "receiver_m": degrees_to_local(receiver_deg, data.origin_deg).astype(np.float32),
        "heard": np.stack([s.heard_R for s in sessions]),
        "present": np.stack([s.present_R for s in sessions]),
        "identity": np.tile(np.arange(1, len(data.receivers) + 1, dtype=np.int32), (count, 1)),
        "position_m": degrees_to_local(np.array([s.truth_deg for s in sessions]), data.origin_deg).astype(np.float32),
        "weight": np.ones(count, np.float32),
    }
    return data, samples, powder_folder


@pytest.mark.parametrize(
    ("split", "count", "expected"),
    [
        (
            "time",
            789,
            {
                "prior_mean": (675, None),
                "knn5": (218, 170),
                "extra_trees_power": (193, 152),
                "extra_trees_power_and_positions": (200, 150),
            },
        ),
        ("block", 458, {"prior_mean": (261, None), "knn5": (249, 243)}),
        ("random", 702, {"prior_mean": (581, None), "knn5": (72, 46)}),
    ],
)
def test_the_reference_points_of_powder(powder, split, count, expected, monkeypatch):
    """Means and medians in metres on all rows that are not test, as measured by others on the same files.

    72 readings of receivers at impossible places, which they kept, are masked here: 2.5 % of tolerance without trees.
    Trees, time split, mean / median over 5 seeds: on power 194.2 +- 1.6 / 152.6 +- 1.0; on power and positions 206.3 +-
    1.3 / 155.8 +- 1.4. That last is the masking's doing, not the seed's: the files as they come give 199.3 / 152.0, the
    same with the 72 masked 205.8 / 155.8, and how absence is coded changes nothing. Hence the distance between those
    means and three standard deviations: 3.5 % and 7 %.
    """
    monkeypatch.setattr(baselines, "TREES", 200)
    data, samples, folder = powder
    test, _ = held_out(data.sessions, split, folder=folder)
    train = np.setdiff1d(np.arange(len(data)), test)
    assert len(test) == count
    parts = ({key: value[rows] for key, value in samples.items()} for rows in (train, test))
    got = baseline_errors_m(*parts, list(expected), origin_deg=data.origin_deg)
    for name, (mean, median) in expected.items():
        rel = {"extra_trees_power": 0.035, "extra_trees_power_and_positions": 0.07}.get(name, 0.025)
        assert got[name].mean() == pytest.approx(mean, rel=rel)
        assert median is None or np.median(got[name]) == pytest.approx(median, rel=rel)
