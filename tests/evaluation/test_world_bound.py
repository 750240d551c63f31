"""The bound of simulated fixes, against the Cramér-Rao functions by hand and its own limits."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from heimdall_jax.evaluation.bounds import covariance_from_information
from heimdall_jax.evaluation.cramer_rao import timing_information
from heimdall_jax.evaluation.world_bound import fused_covariances
from heimdall_jax.worlds import TIMING_WORLD, WorldConfig

ORIGIN = (45.0, 8.0)
RATE_HZ = 12_000.0
COUNT = 20


def samples() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    heard = rng.random((COUNT, 6)) < 0.9
    heard[:, :4] = True
    return {
        "receiver_m": rng.uniform(-50_000, 50_000, (COUNT, 6, 2)).astype(np.float32),
        "receiver_up_m": rng.uniform(0, 500, (COUNT, 6)).astype(np.float32),
        "heard": heard,
        "timing_valid": heard[:, :, None] & heard[:, None, :] & ~np.eye(6, dtype=bool),
        "bandwidth_hz": np.full(COUNT, 1000.0, np.float32),
    }


def sent(*, snr_db: float = 20.0, clock_sigma_s: float = 80e-9) -> SimpleNamespace:
    rng = np.random.default_rng(1)
    return SimpleNamespace(
        position_m_E=rng.uniform(-30_000, 30_000, (COUNT, 2)).astype(np.float32),
        snr_db_R=np.full((COUNT, 6), snr_db),
        clock_sigma_s_R=np.full((COUNT, 6), clock_sigma_s),
    )


def bound(data: dict | None = None, world: WorldConfig = TIMING_WORLD, truth=None, **options) -> np.ndarray:
    truth = sent() if truth is None else truth
    data = samples() if data is None else data
    return fused_covariances(world, data, truth, origin_deg=ORIGIN, sample_rate_hz=RATE_HZ, **options)


def root(covariance_m2: np.ndarray) -> np.ndarray:
    return np.sqrt(np.linalg.det(covariance_m2))


def test_times_alone_are_the_cramer_rao_bound_of_clock_noise_and_echoes_together():
    """By hand, R receivers of SNR g: (1 + Rg) / (Rg) / (8 pi^2 B^2 B_n T g), plus 80 ns of clock and 60 of echoes."""
    data, heard = samples(), samples()["heard"]
    total = 100.0 * heard.sum(axis=1, keepdims=True)
    noise = (1 + total) / total / (8 * np.pi**2 * 1000.0**2 * 12_000 * 100.0)
    variance = np.where(heard, noise + 100e-9**2, np.inf)
    place = np.concatenate([data["receiver_m"], data["receiver_up_m"][..., None]], axis=-1).astype(np.float64)
    information = timing_information(sent().position_m_E.astype(np.float64), place, variance, origin_deg=ORIGIN)
    got = bound(power=False, echo_variance_s2=60e-9**2)
    np.testing.assert_allclose(got, covariance_from_information(information), rtol=1e-5)


def test_both_are_better_than_either_and_powers_alone_are_kilometres():
    fused, times, powers = (
        root(bound(power=power, timing=timing)) for power, timing in ((True, True), (False, True), (True, False))
    )
    assert (fused <= times * (1 + 1e-9)).all()
    assert (fused <= powers * (1 + 1e-9)).all()
    assert np.median(powers) > 1e6 > 1e4 > np.median(times)


@pytest.mark.parametrize("field", ["shadowing_db", "gain_bias_db", "fading_db"])
def test_more_spread_in_the_world_is_a_wider_bound(field):
    wider = dataclasses.replace(TIMING_WORLD, **{field: 3 * getattr(TIMING_WORLD, field)})
    before, after = (root(bound(world=world, timing=False)) for world in (TIMING_WORLD, wider))
    assert (after > before).all()


def test_unknown_clocks_leave_what_powers_say():
    np.testing.assert_allclose(bound(truth=sent(clock_sigma_s=np.inf)), bound(timing=False), rtol=1e-6)


def test_a_recording_without_a_usable_pair_has_what_powers_say():
    none = samples() | {"timing_valid": np.zeros((COUNT, 6, 6), bool)}
    np.testing.assert_allclose(bound(none), bound(timing=False), rtol=1e-6)
