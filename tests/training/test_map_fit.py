"""Learning a `RadioMapNet`: tables by identity, and how far validation lets it trust its map."""

import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.config import RadioMapConfig
from heimdall_jax.models.radio_map import RadioMapNet
from heimdall_jax.training.batches import evaluation_batches
from heimdall_jax.training.dataset import HeimdallDataset, fit_domain
from heimdall_jax.training.map_fit import learn_map, tables
from heimdall_jax.training.radio_map import fit_radio_map
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions

CONFIG = RadioMapConfig(spacing_m=50.0, margin_m=0.0, offset_db=2.0, noise_db=1.0, shadowing_db=2.0)
KNOWN = ("e", "a", "c")  # another order than the data set's rows, "b" and "d" unknown


def made(count, **options):
    return HeimdallDataset(Sessions(count, **options), origin_deg=ORIGIN, rows=RECEIVERS, known=KNOWN)


@pytest.fixture(scope="module")
def train():
    return made(400)


def learned(train, validation):
    net = RadioMapNet(fit_domain(train, ORIGIN, KNOWN), CONFIG)
    learn_map(net, train.columns(), lambda: evaluation_batches(validation, 64))
    return net


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
    net, test = learned(train, made(400, seed=1)), made(300, seed=2).columns()
    assert float(net.temperature[...]) == 1.0
    names = ("rss_db", "receiver_m", "heard", "present", "identity")
    fix = net(**{name: jnp.asarray(test[name]) for name in names})
    error_m = np.linalg.norm(np.asarray(fix.position_m) - test["position_m"], axis=1)
    assert np.median(error_m) < 100  # three known receivers within 1 km, 1 dB of noise; from the middle it is 320


def test_readings_that_err_more_than_the_map_says_raise_the_temperature(train):
    net = learned(train, made(400, seed=1, noise_db=6.0))
    assert float(net.temperature[...]) > 2.0


def test_rows_without_weight_are_not_judged(train):
    validation = made(400, seed=1)
    columns = validation.columns()
    wrong = {key: value.copy() for key, value in columns.items()}
    wrong["weight"][200:] = 0
    wrong["position_m"][200:] += 1e4
    wrong["index"] = np.arange(400, dtype=np.int32)
    domain = fit_domain(train, ORIGIN, KNOWN)
    one, other = RadioMapNet(domain, CONFIG), RadioMapNet(domain, CONFIG)
    learn_map(one, train.columns(), lambda: iter([wrong]))
    learn_map(other, train.columns(), lambda: evaluation_batches(validation.subset(np.arange(200)), 200))
    assert float(one.temperature[...]) == float(other.temperature[...])
