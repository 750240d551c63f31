"""Simulated sessions: determinism, power and delay in the IQ, masks, and the contract of a source."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.optimize

from heimdall_jax.config import WorldConfig
from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.geodesy import degrees_to_local
from heimdall_jax.simulation.sessions import CHUNK, SimulatedSessions, receive, simulate, split_key
from heimdall_jax.simulation.transmission import transmit
from heimdall_jax.simulation.world import World

WORLD = World.build(dataclasses.replace(WorldConfig(), duration_s=0.25))
SOURCE = SimulatedSessions(WORLD, "train", 40)
RATE_HZ = 12_000.0


@jax.jit
def noiseless(world, index):
    """Transmission and noiseless IQ of a session of the train split."""
    key = jax.random.fold_in(split_key(world, "train"), index)
    transmission = transmit(world, key)
    return transmission, receive(world, transmission, key, noise=False)


def equal(a, b):
    return all(
        np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=False)
        for f in dataclasses.fields(a)
        if f.name not in {"receivers", "session_id"}
    )


def test_session_record():
    session = SOURCE[3]
    assert session.session_id == "train-000003"
    assert session.receivers[0] == "Aquila di Giaveno"
    assert session.receiver_deg_RE.shape == (7, 2)
    assert session.receiver_deg_RE[2].tolist() == [45.044, 7.672]
    assert session.present_R.all()
    assert session.iq_RT is not None
    assert session.iq_RT.shape == (7, 3000)
    assert session.iq_RT.dtype == np.complex64
    assert (session.sample_rate_hz, session.frequency_hz, session.truth_error_m) == (12_000.0, 145e6, 0.0)
    position_m = np.asarray(SOURCE.transmissions([3]).position_m_E[0])
    assert session.truth_deg is not None
    np.testing.assert_allclose(degrees_to_local(np.array(session.truth_deg), WORLD.origin_deg), position_m, atol=0.02)


def test_a_session_is_the_same_however_it_is_read():
    alone = SOURCE[5]
    assert equal(alone, SOURCE[5])
    among = SOURCE.__getitems__([*range(9, 9 + CHUNK), 5, 2])
    assert [s.session_id for s in among[-2:]] == ["train-000005", "train-000002"]
    assert equal(alone, among[-2])
    assert equal(alone, SimulatedSessions(World.build(WORLD.config), "train", 6)[5])
    assert equal(SOURCE[-1], SOURCE[39])
    batch = SOURCE.batch([5, 2])
    np.testing.assert_array_equal(batch["iq_BRT"][0], alone.iq_RT)
    np.testing.assert_array_equal(batch["rss_dbm_BR"][0], alone.rss_db_R)


def test_without_iq_a_session_is_the_same_but_for_its_samples():
    powers = SimulatedSessions(WORLD, "train", 40, iq=False)
    for got, wanted in zip(powers.__getitems__([0, 3, 39]), SOURCE.__getitems__([0, 3, 39]), strict=True):
        assert got.iq_RT is None
        assert (got.session_id, got.frequency_hz, got.receivers) == (
            wanted.session_id,
            wanted.frequency_hz,
            wanted.receivers,
        )
        np.testing.assert_allclose(got.rss_db_R, wanted.rss_db_R, atol=1e-3)  # float32 rounding of dB near -100
        np.testing.assert_allclose(got.snr_db_R, wanted.snr_db_R, atol=1e-3)
        np.testing.assert_array_equal(got.heard_R, wanted.heard_R)
        np.testing.assert_array_equal(got.clock_sigma_s_R, wanted.clock_sigma_s_R)
        np.testing.assert_allclose(got.truth_deg, wanted.truth_deg, atol=1e-9)


def test_simulate_is_that_session():
    recording = jax.jit(lambda world, index: simulate(world, "train", index))(WORLD, 5)
    assert SOURCE[5].iq_RT is not None
    np.testing.assert_allclose(recording.iq_RT, SOURCE[5].iq_RT, atol=1e-5)


@pytest.mark.parametrize("change", ["index", "split", "seed"])
def test_another_session_is_another(change):
    others = {
        "index": lambda: SOURCE[6],
        "split": lambda: SimulatedSessions(WORLD, "test", 40)[5],
        "seed": lambda: SimulatedSessions(World.build(dataclasses.replace(WORLD.config, field_seed=1)), "train", 40)[5],
    }
    other, this = others[change](), SOURCE[5]
    assert other.truth_deg != this.truth_deg
    assert other.iq_RT is not None
    assert this.iq_RT is not None
    assert not np.any(other.iq_RT == this.iq_RT)


def test_world_is_the_same_in_every_split():
    elsewhere = SimulatedSessions(WORLD, "another", 4).world
    np.testing.assert_array_equal(elsewhere.shadowing.phase_RW, WORLD.shadowing.phase_RW)


def test_power_of_the_iq_is_the_received_power():
    for index in range(4):
        transmission, iq = noiseless(WORLD, index)
        power_dbfs = 10 * np.log10((np.abs(np.asarray(iq)) ** 2).mean(axis=1))
        np.testing.assert_allclose(power_dbfs, np.asarray(transmission.received_power_dbm_R) + 30.0, atol=0.1)


def test_noise_is_added_at_its_power():
    weak = World.build(dataclasses.replace(WORLD.config, power_min_dbm=-5.0, power_max_dbm=0.0))
    source = SimulatedSessions(weak, "test", 24)
    batch = source.batch(range(24))
    signal = 10 ** ((np.asarray(batch["rss_dbm_BR"], np.float64) + 30) / 10)
    noise = 10 ** ((weak.noise_dbm + 30) / 10)
    power = (np.abs(np.asarray(batch["iq_BRT"], np.complex128)) ** 2).mean(axis=-1)
    # Variance of the mean power of constant-envelope signal and noise: (N^2 + 2 S N) / T.
    score = (power - signal - noise) / np.sqrt((noise**2 + 2 * signal * noise) / 3000)
    faint = signal < 10 * noise
    assert faint.sum() > 50
    assert np.abs(score[faint]).max() < 5
    assert score[faint].std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * faint.sum()))
    heard = np.asarray(batch["heard_BR"])
    np.testing.assert_array_equal(heard, 10 * np.log10(signal / noise) >= 3)
    assert 0 < heard.mean() < 1


def measured_delay_samples(late, early):
    """Delay of `late` after `early` where their correlation peaks; `early` is windowed, so that edges are quiet."""
    spectrum = np.fft.fft(early.astype(np.complex128) * np.hanning(early.size))
    frequency = np.fft.fftfreq(early.size)

    def mismatch(delay):
        return -np.abs(np.vdot(np.fft.ifft(spectrum * np.exp(-2j * np.pi * frequency * delay)), late))

    coarse = min(np.arange(-12, 12.5, 0.5), key=mismatch)
    found = scipy.optimize.minimize_scalar(
        mismatch, bounds=(coarse - 1, coarse + 1), method="bounded", options={"xatol": 1e-7}
    )
    return found.x


@pytest.mark.parametrize("index", [0, 1, 2])
def test_delay_between_receivers_is_geometry(index):
    transmission, iq = noiseless(WORLD, index)
    iq = np.asarray(iq)
    for late, early in [(6, 0), (0, 6), (4, 1), (2, 3)]:
        metres = measured_delay_samples(iq[late], iq[early]) / RATE_HZ * 299_792_458
        expected = float(transmission.distance_m_R[late] - transmission.distance_m_R[early])
        assert metres == pytest.approx(expected, abs=5.0)  # a sample is 25 km


def test_carrier_phases_differ():
    phase = np.asarray(SOURCE.transmissions().carrier_phase_rad_R)
    assert np.abs(np.exp(1j * phase).mean()) < 4 / np.sqrt(phase.size)


def test_both_kinds_are_sent():
    assert set(np.asarray(SOURCE.transmissions().kind).tolist()) == {0, 1}


def test_length_and_indices():
    assert len(SOURCE) == 40
    assert SOURCE.transmissions().power_dbm.shape == (40,)
    assert SOURCE.batch(range(11))["iq_BRT"].shape == (11, 7, 3000)
    with pytest.raises(IndexError, match="session index"):
        SOURCE[40]
    with pytest.raises(DataError, match="no index"):
        SOURCE.batch([])
    assert SOURCE.__getitems__([]) == []
    with pytest.raises(ConfigError, match="count"):
        SimulatedSessions(WORLD, "train", -1)
