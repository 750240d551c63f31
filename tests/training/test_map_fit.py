"""Learning a `RadioMapNet`: tables by identity, and how far validation lets it trust its map."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.map_fit import FACTORS, SHARES, learn_map, tables
from heimdall_jax.training.radio_map import fit_radio_map
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions

CONFIG = RadioMapConfig(spacing_m=50.0, margin_m=0.0, offset_db=2.0, noise_db=1.0, shadowing_db=2.0)
BOTH = replace(CONFIG, fingerprints=500)
INPUTS = ("rss_db", "receiver_m", "heard", "present", "identity")
KNOWN = ("e", "a", "c")  # another order than the data set's rows, "b" and "d" unknown


def made(count, *, echo_db=0.0, **options):
    """Echoes come and go within 200 m, at each receiver otherwise."""
    sessions = Sessions(count, **options)
    turns = sessions.truth_m[:, :1] / 90 + np.arange(5) + np.cos(sessions.truth_m[:, 1:] / 70 + 2 * np.arange(5))
    sessions.rss_db += (echo_db * np.sin(turns)).astype(np.float32)
    return HeimdallDataset(sessions, origin_deg=ORIGIN, rows=RECEIVERS, known=KNOWN)


@pytest.fixture(scope="module")
def train():
    return made(400)


def together(train, validation):
    """Samples of both sides, and which are of the second."""
    samples = {name: np.concatenate([values, validation[name]]) for name, values in train.items()}
    return samples, np.arange(len(samples["weight"])) >= len(train["weight"])


def learned(train, validation, config=CONFIG):
    net = RadioMapNet(fit_domain(train, ORIGIN, KNOWN), config)
    samples, held = together(train.columns(), validation.columns())
    learn_map(net, samples, [held], refit=False)
    return net


def errors_m(net, test):
    samples = test.columns()
    fix = net(**{name: jnp.asarray(samples[name]) for name in INPUTS})
    return np.linalg.norm(np.asarray(fix.position_m) - samples["position_m"], axis=1)


def test_tables_are_by_identity(train):
    fitted = fit_radio_map(train.columns(), CONFIG)
    found = tables(fitted, train.columns()["identity"][0], 4)
    for identity, name in enumerate(KNOWN, start=1):
        row = RECEIVERS.index(name)
        np.testing.assert_array_equal(found["mean_db"][identity], fitted.mean_db_GR[:, row])
        np.testing.assert_array_equal(found["own_db2"][identity], fitted.own_db2_GR[:, row])
        assert found["about_law_db"][identity] == fitted.about_law_db_R[row]
        assert found["bias_db"][identity] == fitted.bias_db_R[row]
        assert found["least_db"][identity] == fitted.least_db_R[row]
    np.testing.assert_array_equal(found["mapped"], [0, 1, 1, 1])
    assert found["least_db"][0] == fitted.least_db_R.min()


def test_the_network_stands_on_the_maps_grid(train):
    net = RadioMapNet(fit_domain(train, ORIGIN, KNOWN), CONFIG)
    np.testing.assert_allclose(net.places_m[...], fit_radio_map(train.columns(), CONFIG).places_m, atol=1e-3)


def test_a_true_map_is_trusted_and_places_transmitters(train):
    net = learned(train, made(400, seed=1))
    assert float(net.temperature[...]) <= 1.0
    np.testing.assert_array_equal(net.shares[...], [1.0, 0.0])
    assert (
        np.median(errors_m(net, made(300, seed=2))) < 100
    )  # three known receivers within 1 km, 1 dB of noise; from the middle it is 320


def test_readings_that_err_more_than_the_map_says_raise_the_temperature(train):
    net = learned(train, made(400, seed=1, noise_db=6.0))
    assert float(net.temperature[...]) > 2.0


def test_rows_without_weight_are_not_judged(train):
    validation = made(400, seed=1)
    columns = validation.columns()
    wrong = {key: value.copy() for key, value in columns.items()}
    wrong["weight"][200:] = 0
    wrong["position_m"][200:] += 1e4
    domain = fit_domain(train, ORIGIN, KNOWN)
    one, other = RadioMapNet(domain, CONFIG), RadioMapNet(domain, CONFIG)
    half = {name: values[:200] for name, values in columns.items()}
    answers = []
    for net, side in ((one, wrong), (other, half)):
        samples, held = together(train.columns(), side)
        answers.append(learn_map(net, samples, [held], refit=False))
    assert float(one.temperature[...]) == float(other.temperature[...])
    np.testing.assert_array_equal(answers[0].position_m, answers[1].position_m)


def test_what_is_left_out_is_not_seen_and_is_learned_at_the_end(train):
    """Truths of a fold moved by 300 m: its fixes stay where they were, the map at the end does not."""
    samples, fold = train.columns(), np.arange(400) % 4 == 0
    moved = {key: value.copy() for key, value in samples.items()}
    moved["position_m"][fold] += 300.0
    domain, answers, nets = fit_domain(train, ORIGIN, KNOWN), [], []
    for given in (samples, moved):
        nets.append(RadioMapNet(domain, CONFIG))
        answers.append(learn_map(nets[-1], given, [fold], refit=True))
    np.testing.assert_allclose(answers[0].truth_m + 300.0, answers[1].truth_m, rtol=1e-6)
    plain, other = (RadioMapNet(domain, CONFIG) for _ in range(2))
    unseen = [learn_map(net, given, [fold], refit=False) for net, given in ((plain, samples), (other, moved))]
    np.testing.assert_array_equal(plain.mean_db[...], other.mean_db[...])
    np.testing.assert_array_equal(unseen[0].heard, samples["heard"][fold])
    assert np.abs(nets[0].mean_db[...] - nets[1].mean_db[...]).max() > 1.0
    whole = fit_radio_map(samples, CONFIG, None, np.asarray(plain.places_m[...], np.float64))
    np.testing.assert_allclose(
        nets[0].mean_db[...], tables(whole, samples["identity"][0], 4)["mean_db"], rtol=1e-5, atol=1e-4
    )


@pytest.mark.slow
def test_fingerprints_are_used_where_they_know_more_than_the_map():
    """Echoes, of a map that is the distance law and hardly more."""
    train, validation, test = (made(500, echo_db=8.0, seed=seed) for seed in (0, 1, 2))
    with_them, without = (
        learned(train, validation, replace(config, shadowing_db=0.5, correlation_m=2000.0, noise_db=6.0))
        for config in (BOTH, CONFIG)
    )
    np.testing.assert_array_equal(without.shares[...], [1.0, 0.0])
    assert float(with_them.shares[1]) > 0.0
    assert errors_m(with_them, test).mean() < 0.9 * errors_m(without, test).mean()


@pytest.mark.slow
def test_fingerprints_of_another_area_have_no_share():
    """The law of the map holds in the east, too; recordings of the west say that none comes from there."""
    wide = replace(BOTH, margin_m=500.0)
    west, east = ((lambda x: x < 400), (lambda x: x > 600))
    train, beside, beyond = (
        side.subset(np.flatnonzero(there(side.columns()["position_m"][:, 0])))
        for side, there in ((made(900), west), (made(900, seed=1), west), (made(900, seed=1), east))
    )
    np.testing.assert_array_equal(learned(train, beyond, wide).shares[...], [1.0, 0.0])
    assert float(learned(train, beside, wide).shares[1]) > 0.0


@pytest.mark.slow
def test_shares_and_temperature_are_the_likeliest_tried(train):
    """Every pair of shares at the temperature chosen says less of the validation truths, spread as suits it best."""
    validation = made(300, echo_db=3.0, seed=1)
    net, samples = learned(train, validation, BOTH), validation.columns()
    chosen = tuple(np.asarray(net.shares[...], np.float64))

    def nats(shares):
        net.fill({"shares": shares})
        fix = net(**{name: jnp.asarray(samples[name]) for name in INPUTS})
        off = np.asarray(fix.position_m, np.float64) - samples["position_m"]
        scale = np.asarray(fix.scale_m, np.float64)
        error_m2 = samples["position_error_m"].astype(np.float64)[:, None, None] ** 2 * np.eye(2)
        covariance_m2 = scale @ scale.transpose(0, 2, 1)
        return min(
            -np.mean(
                [
                    multivariate_normal(np.zeros(2), factor**2 * c + e).logpdf(o)
                    for o, c, e in zip(off, covariance_m2, error_m2, strict=True)
                ]
            )
            for factor in FACTORS
        )

    judged = {shares: nats(shares) for shares in SHARES}
    assert min(judged, key=lambda shares: judged[shares]) == pytest.approx(chosen, abs=1e-6)
    assert max(judged.values()) > min(judged.values()) + 0.05
