"""The posterior over a map's grid against integrals done by brute force in float64."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.errors import ConfigError
from heimdall_jax.models.heads import Fix
from heimdall_jax.models.radio_map import RadioMapNet, geometric_median, grid
from heimdall_jax.propagation import NO_FLOOR_DB, least_signal_db, signal_db, signal_noise_db2
from heimdall_jax.types import Domain

CONFIG = RadioMapConfig(spacing_m=100.0, margin_m=100.0, offset_db=4.0, moving_std_db=7.0, missed=0.03)
DOMAIN = Domain((45.0, 8.0), ("a", "b", "c", "d"), position_box_m=(-200.0, 0.0, 300.0, 400.0))
PLACES_M = grid(DOMAIN.position_box_m, CONFIG)
RNG = np.random.default_rng(0)
MAP = {
    "mean_db": RNG.normal(-80, 6, (5, len(PLACES_M))),
    "own_db2": RNG.uniform(4, 20, (5, len(PLACES_M))),
    "shared_db2": RNG.uniform(0, 4, len(PLACES_M)),
    "mapped": [0, 1, 1, 1, 0],  # an unknown receiver and "d" have no map
    "bias_db": [-10.0, 0.0, 0.0, 0.0, -14.0],
    "least_db": [-95.0, -90.0, -85.0, -88.0, -92.0],
    "exponent": 2.7,
}


@pytest.fixture(scope="module")
def net():
    net = RadioMapNet(DOMAIN, CONFIG)
    net.fill(MAP)
    return net


def batch(heard, present=None, identity=(1, 2, 3)):
    heard = np.array(heard, bool)
    count, receivers = heard.shape
    rng = np.random.default_rng(1)
    return {
        "rss_db": np.where(heard, rng.normal(-80, 5, heard.shape), np.nan).astype(np.float32),
        "receiver_m": rng.uniform(-300, 600, (count, receivers, 2)).astype(np.float32),
        "heard": heard,
        "present": np.ones_like(heard) if present is None else np.array(present, bool),
        "identity": np.tile(np.array(identity, np.int32), (count, 1)),
    }


@nnx.jit
def run(net, samples):
    return net(**samples)


def locate(net, **samples):
    fix = run(net, {name: jnp.asarray(value) for name, value in samples.items()})
    return Fix(np.asarray(fix.position_m), np.asarray(fix.scale_m))


def expected(one, r):
    """Mean and variance of a reading at every grid point."""
    identity = one["identity"][r]
    if MAP["mapped"][identity]:
        return MAP["mean_db"][identity], MAP["own_db2"][identity]
    distance = np.maximum(np.hypot(*(PLACES_M - one["receiver_m"][r]).T), 20.0)
    return MAP["bias_db"][identity] - 27 * np.log10(distance), np.full(len(PLACES_M), 49.0)


def brute(one):
    """Mean and covariance of the place: receivers given the offset are independent, the offset is summed over."""
    log_fit = np.zeros(len(PLACES_M))
    for g in range(len(PLACES_M)):
        spread = np.sqrt(16 + MAP["shared_db2"][g])
        offset = np.linspace(-8 * spread, 8 * spread, 4001)
        log_p = norm.logpdf(offset, 0, spread)
        for r in np.flatnonzero(one["present"]):
            mean, variance = (value[g] for value in expected(one, r))
            if one["heard"][r]:
                log_p += norm.logpdf(one["rss_db"][r], mean + offset, np.sqrt(variance))
            else:
                below = norm.cdf((MAP["least_db"][one["identity"][r]] - mean - offset) / np.sqrt(variance))
                log_p += np.log(0.03 + 0.97 * below)
        log_fit[g] = np.logaddexp.reduce(log_p) + np.log(spread)  # the step of the sum
    weight = np.exp(log_fit - log_fit.max())
    weight /= weight.sum()
    mean = weight @ PLACES_M
    off = PLACES_M - mean
    return mean, (weight[:, None] * off).T @ off + 100.0**2 / 12 * np.eye(2)


@pytest.mark.parametrize(
    ("heard", "identity"),
    [
        ([[1, 1, 1]], (1, 2, 3)),
        ([[1, 0, 1]], (1, 2, 3)),
        ([[0, 0, 1]], (1, 2, 3)),
        ([[1, 1, 1]], (4, 2, 0)),
        ([[1, 0, 1]], (0, 4, 1)),
    ],
)
def test_it_is_the_integral(net, heard, identity):
    """Exact but for several silent receivers at once: a tenth of sigma, for their offset is taken as independent."""
    samples = batch(heard, identity=identity)
    fix = locate(net, **samples)
    mean, covariance = brute({key: value[0] for key, value in samples.items()})
    several = np.sum(np.logical_not(heard)) > 1
    np.testing.assert_allclose(fix.position_m[0], mean, atol=15.0 if several else 0.05)
    got = fix.scale_m[0] @ fix.scale_m[0].T
    np.testing.assert_allclose(got, covariance, rtol=1e-3, atol=500.0 if several else 3.0)


def test_the_likelihood_is_the_normal_density_of_all_readings(net):
    """Against SciPy's multivariate normal, whose covariance is diag(v) + S: a formula apart from the code's."""
    samples = batch([[1, 1, 1]])
    found = np.asarray(net._log_likelihood(*(jnp.asarray(samples[name]) for name in samples)))[0]
    wanted = [
        multivariate_normal(
            MAP["mean_db"][1:4, g], np.diag(MAP["own_db2"][1:4, g]) + 16.0 + MAP["shared_db2"][g]
        ).logpdf(samples["rss_db"][0])
        for g in range(len(PLACES_M))
    ]
    np.testing.assert_allclose(found - found.max(), wanted - np.max(wanted), atol=1e-4)


def test_order_and_absent_receivers_change_nothing(net):
    samples = batch([[1, 1, 0, 1]] * 3, identity=(1, 2, 3, 4))
    fix = locate(net, **samples)
    turned = locate(net, **{key: value[:, [3, 1, 0, 2]] for key, value in samples.items()})
    np.testing.assert_allclose(fix.position_m, turned.position_m, atol=1e-2)
    absent = {
        "rss_db": np.full((3, 1), np.nan, np.float32),
        "receiver_m": np.full((3, 1, 2), np.nan, np.float32),
        "heard": np.ones((3, 1), bool),
        "present": np.zeros((3, 1), bool),
        "identity": np.full((3, 1), 99, np.int32),
    }
    more = locate(net, **{key: np.concatenate([value, absent[key]], axis=1) for key, value in samples.items()})
    np.testing.assert_allclose(fix.position_m, more.position_m, atol=1e-2)
    alone = locate(net, **{key: value[:1] for key, value in samples.items()})
    np.testing.assert_allclose(fix.position_m[0], alone.position_m[0], atol=1e-2)


def test_nothing_heard_by_nobody_is_the_grid_itself(net):
    fix = locate(net, **batch([[0, 0, 0]], present=[[0, 0, 0]]))
    np.testing.assert_allclose(fix.position_m[0], [50.0, 200.0], atol=1e-3)  # the middle of the box, by hand
    side = np.array([700.0, 600.0])  # of the box with its margin: a uniform density's variance is side^2 / 12
    np.testing.assert_allclose(np.diagonal(fix.scale_m[0]), side / np.sqrt(12), rtol=1e-5)


def test_at_a_high_temperature_all_cells_are_alike():
    net = RadioMapNet(DOMAIN, CONFIG)
    net.fill(MAP | {"temperature": 1e6})
    wide = locate(net, **batch([[1, 1, 1]]))
    np.testing.assert_allclose(wide.position_m[0], [50.0, 200.0], atol=0.1)
    np.testing.assert_allclose(np.diagonal(wide.scale_m[0]), np.array([700.0, 600.0]) / np.sqrt(12), rtol=1e-4)


def test_the_grid_covers_the_box_and_its_margin_in_equal_cells():
    assert len(PLACES_M) == 7 * 6
    np.testing.assert_allclose(PLACES_M.min(axis=0), [-250.0, -50.0])
    np.testing.assert_allclose(PLACES_M.max(axis=0), [350.0, 450.0])


def posterior(net, samples):
    """Weights (G,) of the first sample at temperature 1."""
    log_fit = np.asarray(net._log_likelihood(*(jnp.asarray(samples[name]) for name in samples)), np.float64)[0]
    weight = np.exp(log_fit - log_fit.max())
    return weight / weight.sum()


def least_mean_distance(weight):
    """SciPy's minimum of the mean distance, a cell's being the root of the mean squared one to its points."""

    def mean_m(place):
        return weight @ np.sqrt(((PLACES_M - place) ** 2).sum(axis=1) + 100.0**2 / 6)

    return minimize(mean_m, weight @ PLACES_M, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9}).x


def test_a_grid_over_places_far_apart_is_refused_before_memory_is_taken():
    """1,004 x 1,004 km at 50 m would be 4e8 cells; with the spacing that the error names it is a grid."""
    box_m = (-5e5, -5e5, 5e5, 5e5)
    with pytest.raises(ConfigError, match=r"20008 x 20008 cells .* --radio-map.spacing-m \d+") as refused:
        grid(box_m, RadioMapConfig(margin_m=200.0))
    named = float(str(refused.value).split("--radio-map.spacing-m ")[1].split()[0])
    assert 900_000 < len(grid(box_m, RadioMapConfig(margin_m=200.0, spacing_m=named))) <= 1_000_000


@pytest.mark.parametrize("seed", range(5))
def test_the_geometric_median_is_scipys(seed):
    weight = np.random.default_rng(seed).dirichlet(np.full(len(PLACES_M), 0.1))
    found = geometric_median(jnp.asarray(weight[None], jnp.float32), jnp.asarray(PLACES_M, jnp.float32), 100.0)
    np.testing.assert_allclose(found[0], least_mean_distance(weight), atol=2.0)
    assert np.linalg.norm(weight @ PLACES_M - found[0]) > 5.0  # the mean is another place


def test_cross_validated_it_answers_the_median_whatever_the_temperature(net):
    """And its covariance is the second moment of the tempered posterior about that, not about its own mean."""
    samples = batch([[1, 0, 1]])
    judged = RadioMapNet(DOMAIN, replace(CONFIG, cross_validate=True))
    judged.fill(MAP | {"temperature": 3.0})
    fix = locate(judged, **samples)
    weight = posterior(net, samples)
    np.testing.assert_allclose(fix.position_m[0], least_mean_distance(weight), atol=2.0)
    tempered = weight ** (1 / 3) / (weight ** (1 / 3)).sum()
    off = PLACES_M - fix.position_m[0]
    wanted = (tempered[:, None] * off).T @ off + 100.0**2 / 12 * np.eye(2)
    np.testing.assert_allclose(fix.scale_m[0] @ fix.scale_m[0].T, wanted, rtol=1e-3, atol=3.0)


def test_a_reading_near_the_noise_is_what_the_signal_under_it_can_be(net):
    """Cross-validated: above its floor a noisier signal, at it one that was not heard, far below it nothing."""
    floors_db = np.array([NO_FLOOR_DB, NO_FLOOR_DB, -84.0, NO_FLOOR_DB, NO_FLOOR_DB])
    least_db = np.where(floors_db > NO_FLOOR_DB, least_signal_db(floors_db), MAP["least_db"])
    judged = RadioMapNet(DOMAIN, replace(CONFIG, cross_validate=True))
    judged.fill(MAP | {"floor_db": floors_db, "least_db": least_db})
    samples = batch([[1, 1, 1]])
    signal, noise_db2 = (float(f(np.float64(-80.0), -84.0, np)) for f in (signal_db, signal_noise_db2))
    assert signal < -82.0
    assert noise_db2 > 0.3
    for read_db, said_db, noisier_db2, heard, present in (
        (-80.0, signal, noise_db2, True, True),
        (-83.0, np.nan, 0.0, False, True),
        (-95.0, np.nan, 0.0, False, False),
    ):
        read, said = ({name: value.copy() for name, value in samples.items()} for _ in range(2))
        read["rss_db"][0, 1], said["rss_db"][0, 1] = read_db, said_db
        said["heard"][0, 1], said["present"][0, 1] = heard, present
        plain = RadioMapNet(DOMAIN, CONFIG)
        noisier = MAP["own_db2"] + noisier_db2 * (np.arange(5) == 2)[:, None]
        plain.fill(MAP | {"own_db2": noisier, "least_db": least_db})
        np.testing.assert_allclose(posterior(judged, read), posterior(plain, said), rtol=2e-4)


def test_each_receiver_has_its_own_spread_about_the_law(net):
    """A wide one says less: against SciPy's normal density of one reading."""
    samples = batch([[1]], identity=(4,))
    other = RadioMapNet(DOMAIN, CONFIG)
    other.fill(MAP | {"about_law_db": [7.0, 7.0, 7.0, 7.0, 3.0]})
    mean, _ = expected({name: value[0] for name, value in samples.items()}, 0)
    wanted = norm.logpdf(samples["rss_db"][0, 0], mean, np.sqrt(9.0 + 16.0 + np.array(MAP["shared_db2"])))
    weight = np.exp(wanted - wanted.max())
    np.testing.assert_allclose(posterior(other, samples), weight / weight.sum(), rtol=2e-4)


def pooled(shares, **values):
    """The map and twelve recordings of places at random."""
    net, rng = RadioMapNet(DOMAIN, replace(CONFIG, fingerprints=12)), np.random.default_rng(4)
    net.fill(MAP | {"shares": shares} | values)
    readings = {"rss_db": rng.normal(-80, 5, (4, 12)), "heard": np.ones((4, 12)), "present": np.ones((4, 12))}
    places_m = {"place_m": rng.uniform(-200, 400, (12, 2)), "counts": np.ones(12), "spread_m": 80.0}
    stood_m = {name: np.zeros((4, 12)) for name in ("east_m", "north_m")}
    net.fingerprints.fill(readings | places_m | stood_m)
    return net


def standing(samples):
    return samples | {"receiver_m": np.zeros_like(samples["receiver_m"])}


def test_map_and_fingerprints_are_pooled_by_their_shares():
    """Against the weighted sum of both logarithms in float64; the density over the grid is at its points, in order."""
    samples = standing(batch([[1, 1, 0]]))
    net = pooled((0.4, 0.7), temperature=2.0)
    by_map, by_recordings = (
        np.asarray(value, np.float64)[0]
        for value in net.log_likelihoods(**{name: jnp.asarray(value) for name, value in samples.items()})
    )
    plain = np.log(posterior(net, samples))
    np.testing.assert_allclose(by_map - by_map.max(), plain - plain.max(), atol=1e-4)
    mismatch = net.fingerprints.mismatch(*(jnp.asarray(value) for value in samples.values()))
    weight = np.exp(-0.5 * (np.asarray(mismatch, np.float64)[0] - float(mismatch.min())))
    weight /= weight.sum()
    off_m = PLACES_M - np.asarray(net.fingerprints.place_m[...], np.float64)[:, None]
    inside = (norm.cdf((off_m + 50) / 80) - norm.cdf((off_m - 50) / 80)).prod(axis=-1)
    wanted = np.log(0.99 * (weight @ inside) / 100**2 + 0.01 / (len(PLACES_M) * 100**2))
    np.testing.assert_allclose(by_recordings, wanted, atol=1e-3)
    log_fit = (0.4 * by_map + 0.7 * wanted) / 2.0
    together = np.exp(log_fit - log_fit.max())
    fix = locate(net, **samples)
    np.testing.assert_allclose(fix.position_m[0], together @ PLACES_M / together.sum(), atol=0.1)


def test_without_a_share_fingerprints_say_nothing(net):
    samples = standing(batch([[1, 1, 1]]))
    alone, beside, heeded = (locate(one, **samples) for one in (net, pooled((1.0, 0.0)), pooled((1.0, 1.0))))
    np.testing.assert_allclose(beside.position_m, alone.position_m, atol=1e-3)
    np.testing.assert_allclose(beside.scale_m, alone.scale_m, atol=1e-3)
    assert np.linalg.norm(heeded.position_m - alone.position_m) > 10


def test_a_network_without_known_receivers_has_no_fingerprints():
    nobody = replace(DOMAIN, receivers=())
    assert RadioMapNet(nobody, replace(CONFIG, fingerprints=12)).fingerprints is None
    assert RadioMapNet(DOMAIN, replace(CONFIG, fingerprints=0)).fingerprints is None
