"""The bound of simulated fixes, against the Cramér-Rao functions by hand and its own limits."""

import dataclasses

import numpy as np
import pytest

from heimdall_jax.evaluation.bounds import covariance_from_information
from heimdall_jax.evaluation.cramer_rao import timing_information
from heimdall_jax.evaluation.world_bound import fused_covariances
from heimdall_jax.worlds import TIMING_WORLD

ORIGIN = (45.0, 8.0)


def samples(count: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    heard = rng.random((count, 6)) < 0.9
    heard[:, :4] = True
    return {
        "position_m": rng.uniform(-30_000, 30_000, (count, 2)).astype(np.float32),
        "receiver_m": rng.uniform(-50_000, 50_000, (count, 6, 2)).astype(np.float32),
        "receiver_up_m": rng.uniform(0, 500, (count, 6)).astype(np.float32),
        "heard": heard,
        "arrival_precision_per_s2": np.full((count, 6), 1 / 60e-9**2, np.float32),
        "clock_sigma_s": np.full((count, 6), 80e-9, np.float32),
    }


def root(covariance_m2: np.ndarray) -> np.ndarray:
    return np.sqrt(np.linalg.det(covariance_m2))


def test_times_alone_are_the_cramer_rao_bound_of_clock_and_noise_together():
    """60 ns of noise and 80 ns of clock are 100 ns."""
    data = samples()
    variance = np.where(data["heard"], 100e-9**2, np.inf)
    place = np.concatenate([data["receiver_m"], data["receiver_up_m"][..., None]], axis=-1).astype(np.float64)
    information = timing_information(data["position_m"].astype(np.float64), place, variance, origin_deg=ORIGIN)
    got = fused_covariances(TIMING_WORLD, data, origin_deg=ORIGIN, power=False)
    np.testing.assert_allclose(got, covariance_from_information(information), rtol=1e-5)


def test_both_are_better_than_either_and_powers_alone_are_kilometres():
    data = samples()
    fused, times, powers = (
        root(fused_covariances(TIMING_WORLD, data, origin_deg=ORIGIN, power=power, timing=timing))
        for power, timing in ((True, True), (False, True), (True, False))
    )
    assert (fused <= times * (1 + 1e-9)).all()
    assert (fused <= powers * (1 + 1e-9)).all()
    assert np.median(powers) > 1e6 > 1e4 > np.median(times)


@pytest.mark.parametrize("field", ["shadowing_db", "gain_bias_db", "fading_db"])
def test_more_spread_in_the_world_is_a_wider_bound(field):
    wider = dataclasses.replace(TIMING_WORLD, **{field: 3 * getattr(TIMING_WORLD, field)})
    before, after = (
        root(fused_covariances(world, samples(), origin_deg=ORIGIN, timing=False)) for world in (TIMING_WORLD, wider)
    )
    assert (after > before).all()


def test_unknown_clocks_leave_what_powers_say():
    data = samples() | {"clock_sigma_s": np.full((20, 6), np.inf, np.float32)}
    np.testing.assert_allclose(
        fused_covariances(TIMING_WORLD, data, origin_deg=ORIGIN),
        fused_covariances(TIMING_WORLD, data, origin_deg=ORIGIN, timing=False),
        rtol=1e-6,
    )
