"""Recordings kept by identity, and how sharply to compare them judged by other groups alone."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from heimdall_jax.models.fingerprints import Fingerprints
from heimdall_jax.training import fingerprint_fit
from heimdall_jax.training.dataset import HeimdallDataset
from heimdall_jax.training.fingerprint_fit import INPUTS, SPREADS_M, TEMPERATURES, learn_fingerprints
from tests.training.conftest import ORIGIN, RECEIVERS, Sessions

KNOWN = ("e", "a", "c")  # another order than the data set's rows, "b" and "d" unknown
AREA_M2 = 1e6


def columns(count=60, **options):
    made = HeimdallDataset(Sessions(count, **options), origin_deg=ORIGIN, rows=RECEIVERS, known=KNOWN)
    return {name: value.copy() for name, value in made.columns().items()}


def learned(train, group=None, room=200):
    net = Fingerprints(len(KNOWN), room)
    learn_fingerprints(net, train, group, AREA_M2)
    return net


def settings_of(net):
    return float(net.temperature[...]), float(net.spread_m[...])


def against_all(net, train):
    """What speaks against each of 60 recordings, of all of them."""
    return np.asarray(net.mismatch(*(jnp.asarray(train[name]) for name in INPUTS)), np.float64)[:, :60]


def test_recordings_are_kept_by_identity():
    train = columns()
    train["heard"][3, RECEIVERS.index("a")] = False
    train["rss_db"][3, RECEIVERS.index("a")] = np.nan
    train["present"][5, RECEIVERS.index("c")] = train["heard"][5, RECEIVERS.index("c")] = False
    net = learned(train)
    for identity, name in enumerate(KNOWN, start=1):
        row = RECEIVERS.index(name)
        assert (train["identity"][:, row] == identity).all()
        heard, present = train["heard"][:, row], train["present"][:, row]
        kept = {key: np.asarray(getattr(net, key)[...])[identity - 1, :60] for key in ("heard", "present", "rss_db")}
        np.testing.assert_array_equal(kept["heard"], heard)
        np.testing.assert_array_equal(kept["present"], present)
        np.testing.assert_array_equal(kept["rss_db"], np.where(heard, train["rss_db"][:, row], 0.0))
        for axis, key in enumerate(("east_m", "north_m")):
            stood_m = np.where(present, train["receiver_m"][:, row, axis], 0.0)
            np.testing.assert_array_equal(np.asarray(getattr(net, key)[...])[identity - 1, :60], stood_m)
    np.testing.assert_array_equal(net.place_m[...][:60], train["position_m"])
    np.testing.assert_array_equal(net.counts[...], np.arange(200) < 60)
    assert np.asarray(net.present[...])[:, 60:].sum() == 0


def test_of_more_recordings_than_room_some_are_kept_and_none_without_weight():
    train = columns(80)
    train["weight"][::2] = 0.0
    few, all_of_them = learned(train, room=15), learned(train, room=40)
    np.testing.assert_array_equal(few.counts[...], np.ones(15))
    np.testing.assert_array_equal(all_of_them.place_m[...], train["position_m"][1::2])
    rows = [
        int(np.flatnonzero((train["position_m"] == place).all(axis=1))[0]) for place in np.asarray(few.place_m[...])
    ]
    assert len(set(rows)) == 15
    assert all(row % 2 for row in rows)
    np.testing.assert_array_equal(few.rss_db[...][0], train["rss_db"][rows, RECEIVERS.index("e")])


def doubled():
    """Each of 60 recordings twice, a metre apart; numbers that tell which are copies."""
    train = columns()
    twice = {name: np.concatenate([value, value]) for name, value in train.items()}
    twice["position_m"][60:] += 1.0
    return twice, np.tile(np.arange(60), 2)


def test_a_group_is_left_out_whole():
    """Copies left out in company leave other places to compare with; copies that stay say where they are to a metre."""
    twice, original = doubled()
    together, apart = learned(twice, original), learned(twice, np.arange(120))
    assert settings_of(apart)[1] == min(SPREADS_M)
    assert settings_of(together)[1] > 2 * min(SPREADS_M)
    assert settings_of(together) == settings_of(learned(columns(), np.arange(60)))  # as if there were no copies


def test_without_groups_each_recording_is_its_own_and_one_group_is_no_group():
    train = columns()
    wanted = settings_of(learned(train, np.arange(60)))
    assert settings_of(learned(train)) == wanted
    assert settings_of(learned(train, np.zeros(60, int))) == wanted


def test_temperature_and_spread_are_the_likeliest_of_all():
    """A loop over recordings in float64, each placed by a mixture of the others' normal densities."""
    train, group = columns(noise_db=4.0), np.arange(60) // 4
    net = learned(train, group)
    mismatch = against_all(net, train)
    place_m = train["position_m"].astype(np.float64)
    near = {spread: [multivariate_normal(at, spread**2).pdf(place_m) for at in place_m] for spread in SPREADS_M}
    nats = {}
    for temperature in TEMPERATURES:
        for spread in SPREADS_M:
            said = []
            for one in range(60):
                others = np.flatnonzero(group != group[one])
                weight = np.exp(-mismatch[one, others] / (2 * temperature))
                density = weight @ near[spread][one][others] / weight.sum()
                said.append(np.log(0.99 * density + 0.01 / AREA_M2))
            nats[temperature, spread] = np.mean(said)
    best = max(nats, key=lambda which: nats[which])
    assert settings_of(net) == pytest.approx(best, rel=1e-6)
    assert min(TEMPERATURES) <= best[0]
    assert min(SPREADS_M) < best[1] < max(SPREADS_M)  # an end would be found by a wrong search, too


def test_noisier_readings_are_compared_less_sharply():
    sharp, blunt = (settings_of(learned(columns(300, noise_db=noise_db), room=300)) for noise_db in (1.0, 12.0))
    assert sharp[0] <= blunt[0]
    assert sharp[1] < blunt[1]


def test_of_many_recordings_some_are_judged(monkeypatch):
    """By all that are kept: in batches, the last one shorter."""
    monkeypatch.setattr(fingerprint_fit, "MOST", 25)
    monkeypatch.setattr(fingerprint_fit, "BATCH", 10)
    asked = []
    own = fingerprint_fit._likeliest
    monkeypatch.setattr(fingerprint_fit, "_likeliest", lambda *given: asked.append(given) or own(*given))
    train = columns()
    net = learned(train)
    ((mismatch, _, judged, _, _),) = asked
    assert len(np.unique(judged)) == 25
    np.testing.assert_allclose(mismatch, against_all(net, train)[judged], rtol=1e-5, atol=1e-5)


def test_groups_go_with_their_recordings():
    """Rows without weight among them move no group number to another recording."""
    twice, original = doubled()
    mixed = {name: np.repeat(value, 2, axis=0) for name, value in twice.items()}
    mixed["weight"][1::2] = 0.0
    group = np.repeat(original, 2)
    group[1::2] = 1000 + np.arange(120)
    assert settings_of(learned(mixed, group)) == settings_of(learned(twice, original))
