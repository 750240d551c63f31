"""Places from arrival times: exact without noise, at the Cramér-Rao bound with it, the prior without them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from heimdall_jax.config import ModelConfig
from heimdall_jax.errors import DataError
from heimdall_jax.evaluation.bounds import covariance_from_information, pooled_r68
from heimdall_jax.evaluation.cramer_rao import timing_information
from heimdall_jax.geodesy import SPEED_OF_LIGHT_M_PER_S, degrees_to_enu, ground_height_m
from heimdall_jax.models.arrival import Arrivals, solve
from heimdall_jax.models.heads import Fix
from heimdall_jax.models.pair_delays import arrival_ranges, precision_per_m2
from heimdall_jax.models.receiver_set import ReceiverSetNet
from heimdall_jax.simulation.stations import SEVEN_STATIONS
from heimdall_jax.types import Domain

ORIGIN = (44.9365, 8.1965)
STATION_M = degrees_to_enu(
    np.array([(s.latitude_deg, s.longitude_deg) for s in SEVEN_STATIONS]),
    np.array([s.altitude_m for s in SEVEN_STATIONS]),
    ORIGIN,
)
SPREAD_M = 38_000.0
CENTRE_M = jnp.zeros(2, jnp.float32)


def truths(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-70_000, -55_000), (70_000, 55_000), (count, 2))


def ranges_m(truth_m: np.ndarray) -> np.ndarray:
    """Float64 distances in space (N, R) from the curved ground."""
    up_m = np.asarray(ground_height_m(truth_m, ORIGIN))
    return np.linalg.norm(np.concatenate([truth_m, up_m[:, None]], axis=1)[:, None] - STATION_M, axis=-1)


def arrivals(range_m: np.ndarray, sigma_m: np.ndarray) -> Arrivals:
    centred = range_m - range_m.mean(axis=1, keepdims=True)  # the time of sending is unknown
    place = np.broadcast_to(STATION_M, (len(range_m), 7, 3)).astype(np.float32)
    precision = np.where(np.isfinite(sigma_m), 1 / sigma_m**2, 0.0)
    return Arrivals(*(jnp.asarray(x, jnp.float32) for x in (centred, precision, place[..., :2], place[..., 2])))


def prior(count: int, place_m: tuple[float, float] = (0.0, 0.0), sigma_m: float = 50_000.0) -> Fix:
    scale = np.broadcast_to(np.eye(2, dtype=np.float32) * np.float32(sigma_m), (count, 2, 2))
    return Fix(jnp.tile(jnp.asarray([place_m], jnp.float32), (count, 1)), jnp.asarray(scale))


MOST = 2000


def solved(given: Arrivals, before: Fix) -> Fix:
    """By one program: what is given, over and over until `MOST`."""
    count = len(given.range_m)
    filled = jax.tree.map(lambda x: np.resize(x, (MOST, *x.shape[1:])), (given, before))
    return jax.tree.map(lambda x: x[:count], solve_most(*filled))


@jax.jit
def solve_most(given: Arrivals, before: Fix) -> Fix:
    return solve(given, before, CENTRE_M, jnp.float32(SPREAD_M), ORIGIN)


def test_without_noise_the_place_comes_back():
    truth_m = truths(200)
    fix = solved(arrivals(ranges_m(truth_m), np.full((200, 7), 15.0)), prior(200))
    assert np.linalg.norm(np.asarray(fix.position_m) - truth_m, axis=1).max() < 1.0


@pytest.mark.parametrize("sigma_s", [50e-9, 1e-6])
def test_errors_and_spreads_are_those_of_the_cramer_rao_bound(sigma_s):
    """r68 within 5 % of the bound's (its own sampling error at n = 2,000 is 2 %), coverage within three errors."""
    count, sigma_m = MOST, sigma_s * SPEED_OF_LIGHT_M_PER_S
    truth_m = truths(count, seed=1)
    noise = np.random.default_rng(2).normal(0, sigma_m, (count, 7))
    fix = solved(arrivals(ranges_m(truth_m) + noise, np.full((count, 7), sigma_m)), prior(count))
    error_m = np.asarray(fix.position_m, np.float64) - truth_m
    information = timing_information(truth_m, STATION_M, np.full((count, 7), sigma_s**2), origin_deg=ORIGIN)
    bound_m = pooled_r68(covariance_from_information(information), np.random.default_rng(0))
    assert np.quantile(np.linalg.norm(error_m, axis=1), 0.68) == pytest.approx(bound_m, rel=0.05)
    whitened = np.linalg.solve(np.asarray(fix.scale_m, np.float64), error_m[..., None])[..., 0]
    inside = (whitened**2).sum(axis=1) <= -2 * np.log(0.32)
    assert inside.mean() == pytest.approx(0.68, abs=3 * np.sqrt(0.68 * 0.32 / count))


def test_without_times_the_prior_stands():
    before = prior(5, (20_000.0, -10_000.0), 7_000.0)
    fix = solved(arrivals(ranges_m(truths(5)), np.full((5, 7), np.inf)), before)
    np.testing.assert_allclose(fix.position_m, before.position_m, atol=5.0)
    np.testing.assert_allclose(fix.scale_m, before.scale_m, rtol=1e-3, atol=5.0)


def test_two_places_that_three_receivers_leave_are_told_as_unsure():
    """Where a second place fits as well, the spread reaches from one to the other, so that the truth is inside."""
    count = 500
    truth_m = truths(count, seed=3)
    sigma_m = np.full((count, 7), np.inf)
    sigma_m[:, [1, 5, 6]] = 15.0
    noise = np.random.default_rng(4).normal(0, 15.0, (count, 7))
    fix = solved(arrivals(ranges_m(truth_m) + noise, sigma_m), prior(count))
    whitened = np.linalg.solve(
        np.asarray(fix.scale_m, np.float64), (np.asarray(fix.position_m) - truth_m).astype(np.float64)[..., None]
    )
    assert ((whitened[..., 0] ** 2).sum(axis=1) < 100).mean() > 0.97


def test_arrival_times_fit_all_pairs_whichever_are_missing():
    rng = np.random.default_rng(0)
    time_s = rng.uniform(-3e-4, 3e-4, (4, 6))
    tdoa_s = (time_s[:, :, None] - time_s[:, None]).astype(np.float32)
    precision = rng.uniform(1e12, 1e15, (4, 6)).astype(np.float32)
    valid = np.broadcast_to(~np.eye(6, dtype=bool), (4, 6, 6)).copy()
    valid[1, 0, 1] = valid[1, 1, 0] = False
    range_m = np.asarray(arrival_ranges(jnp.asarray(tdoa_s), jnp.asarray(precision), jnp.asarray(valid)))
    expected = SPEED_OF_LIGHT_M_PER_S * time_s
    np.testing.assert_allclose(range_m - range_m[:, :1], expected - expected[:, :1], atol=1.0)


def test_clocks_widen_arrivals_and_unknown_ones_silence_them():
    """1 / (c^2 (1/a + clock^2)), in float64 by hand."""
    precision = np.array([[1 / 30e-9**2, 1 / 30e-9**2, 1 / 30e-9**2, 0.0]], np.float32)
    clock_s = np.array([[0.0, 40e-9, np.inf, 0.0]], np.float32)
    sigma_m = SPEED_OF_LIGHT_M_PER_S * np.array([30e-9, 50e-9])
    got = np.asarray(precision_per_m2(jnp.asarray(precision), jnp.asarray(clock_s)))[0]
    np.testing.assert_allclose(got[:2], 1 / sigma_m**2, rtol=1e-5)
    assert got[2] < 1e-16
    assert got[3] == 0.0


DOMAIN = Domain(ORIGIN, tuple(s.name for s in SEVEN_STATIONS), (0.0, 0.0), SPREAD_M, -85.0, 9.0)
TIMED = ModelConfig(name="receiver_set", width=16, depth=1, heads=2, identity=False, timing=True)


@functools.cache
def network() -> ReceiverSetNet:
    """Not to be changed."""
    model = nnx.jit(lambda: ReceiverSetNet(TIMED, DOMAIN, rngs=nnx.Rngs(0)))()
    model.eval()
    return model


@nnx.jit
def fixes(model: ReceiverSetNet, given: dict) -> tuple[Fix, Fix]:
    return model.fixes(**given)


def sample(truth_m: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    rng, count = np.random.default_rng(seed), len(truth_m)
    heard = rng.random((count, 7)) < 0.9
    time_s = ranges_m(truth_m) / SPEED_OF_LIGHT_M_PER_S + rng.normal(0, 50e-9, (count, 7))
    valid = heard[:, :, None] & heard[:, None] & ~np.eye(7, dtype=bool)
    return {
        "rss_db": rng.normal(-85, 9, (count, 7)).astype(np.float32),
        "receiver_m": np.tile(STATION_M[None, :, :2], (count, 1, 1)).astype(np.float32),
        "heard": heard,
        "present": np.ones((count, 7), bool),
        "receiver_up_m": np.tile(STATION_M[None, :, 2], (count, 1)).astype(np.float32),
        "clock_sigma_s": np.full((count, 7), 50e-9, np.float32),
        "tdoa_s": np.where(valid, time_s[:, :, None] - time_s[:, None], 0.0).astype(np.float32),
        "arrival_precision_per_s2": np.where(heard, 1 / 20e-9**2, 0.0).astype(np.float32),
        "timing_valid": valid,
    }


def test_an_untrained_network_already_places_by_times():
    truth_m = truths(64, seed=5)
    fused, alone = fixes(network(), sample(truth_m))
    assert np.median(np.linalg.norm(np.asarray(fused.position_m) - truth_m, axis=1)) < 50.0
    assert np.median(np.linalg.norm(np.asarray(alone.position_m) - truth_m, axis=1)) > 10_000.0


def test_masked_receivers_and_their_order_change_nothing():
    arrays = sample(truths(64, seed=6))
    fix, _ = fixes(network(), arrays)
    order = np.array([4, 2, 6, 0, 1, 3, 5])
    moved = {key: value[:, order] for key, value in arrays.items()}
    for key in ("tdoa_s", "timing_valid"):
        moved[key] = moved[key][:, :, order]
    np.testing.assert_allclose(fixes(network(), moved)[0].position_m, fix.position_m, atol=5.0)
    junk = dict(arrays)
    deaf = ~arrays["heard"]
    for key in ("rss_db", "clock_sigma_s", "arrival_precision_per_s2"):
        junk[key] = np.where(deaf, np.float32(np.nan), arrays[key])
    junk["tdoa_s"] = np.where(arrays["timing_valid"], arrays["tdoa_s"], np.float32(np.nan))
    np.testing.assert_array_equal(fixes(network(), junk)[0].position_m, fix.position_m)


def test_gradients_are_finite_and_reach_what_powers_say():
    arrays = {name: jnp.asarray(values) for name, values in sample(truths(16, seed=7)).items()}
    graph, params, rest = nnx.split(network(), nnx.Param, ...)

    def loss(params: nnx.State) -> jax.Array:
        fused = nnx.merge(graph, params, rest)(**arrays)
        return jnp.sum(fused.position_m) + jnp.sum(fused.scale_m)

    gradient = jax.jit(jax.grad(loss))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert any(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(gradient["fusion"]))


def test_an_absent_input_is_named():
    arrays = sample(truths(2))
    del arrays["tdoa_s"]
    with pytest.raises(DataError, match="tdoa_s"):
        network()(**{name: jnp.asarray(values) for name, values in arrays.items()})
