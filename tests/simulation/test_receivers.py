"""What receivers add to a transmission, each against its truth: clocks, oscillators, echoes, gains, fresh worlds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from heimdall_jax.config import WorldConfig
from heimdall_jax.simulation.channel import TAPER, guarded_length
from heimdall_jax.simulation.sessions import ENDLESS, SimulatedSessions, receive, split_key
from heimdall_jax.simulation.transmission import transmit
from heimdall_jax.simulation.waveforms import WAVEFORMS, waveform
from heimdall_jax.simulation.world import World, fold_in_name
from heimdall_jax.worlds import TIMING_WORLD

RATE_HZ = 12_000.0
RICH = World.build(dataclasses.replace(TIMING_WORLD, echoes=2, rate_error_ppm=1.0, duration_s=0.2))
"""All nuisances at once, with every kind of transmission."""
SOURCE = SimulatedSessions(RICH, "train", ENDLESS)


@pytest.fixture(scope="module")
def sent():
    """3,000 transmissions of the world with everything."""
    return jax.tree.map(np.asarray, SOURCE.transmissions(range(3000)))


@jax.jit
def noiseless(world, index):
    """Transmission and noiseless IQ of a session of the train split."""
    key = jax.random.fold_in(split_key(world, "train"), index)
    transmission = transmit(world, key)
    return transmission, receive(world, transmission, key, noise=False)


@jax.jit
def transmitted(world, index):
    """The waveform of a session of the train split as it left the transmitter, with its guard."""
    key = jax.random.fold_in(split_key(world, "train"), index)
    total, start = guarded_length(world.samples, world.max_shift_s * RATE_HZ)
    options = {"kinds": world.config.kinds, "start": start, "stop": start + world.samples}
    return waveform(transmit(world, key).kind, fold_in_name(key, "waveform"), total, RATE_HZ, **options)


def sum_of_paths(wave, sent, receiver, number, start, samples):
    """One noiseless sample in float64, straight from the definition: a trigonometric sum per path."""
    edge = np.sin(np.linspace(0, np.pi / 2, TAPER)) ** 2
    spectrum = np.fft.fft(wave * np.concatenate([edge, np.ones(wave.size - 2 * TAPER), edge[::-1]]))
    turns = np.fft.fftfreq(wave.size)
    middle = (samples - 1) / 2
    own = (number - middle) * (1 + float(sent.rate_error_R[receiver])) + middle + start
    late = float(sent.delay_s_R[receiver]) + float(sent.clock_error_s_R[receiver])
    value = 0.0
    paths = zip(sent.echo_delay_s_RQ[receiver], sent.echo_gain_RQ[receiver], strict=True)
    for behind, gain in [(0.0, 1.0), *paths]:
        place = own - (late + float(behind)) * RATE_HZ
        value += complex(gain) * np.sum(spectrum * np.exp(2j * np.pi * turns * place)) / wave.size
    power_dbm = float(sent.direct_power_dbm_R[receiver]) + float(sent.gain_bias_db_R[receiver])
    turned = float(sent.carrier_phase_rad_R[receiver])
    turned += 2 * np.pi * float(sent.offset_hz_R[receiver]) * (number - middle) / RATE_HZ
    return 10 ** ((power_dbm + 30) / 20) * np.exp(1j * turned) * value


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_every_sample_is_what_the_truth_says(index):
    sent, iq = noiseless(RICH, index)
    wave = np.asarray(transmitted(RICH, index), np.complex128)
    _, start = guarded_length(RICH.samples, RICH.max_shift_s * RATE_HZ)
    for receiver in (0, 3, 6):
        scale = np.sqrt((np.abs(np.asarray(iq[receiver])) ** 2).mean())
        for number in (0, 100, 1199, 1777, 2399):
            expected = sum_of_paths(wave, sent, receiver, number, start, RICH.samples)
            assert abs(complex(iq[receiver, number]) - expected) < 2e-3 * scale


def test_kept_samples_are_clear_of_the_taper():
    """Even where clocks are at their worst: 6 sigmas of 1 ms, the longest delay, and the guard's own taper."""
    total, start = guarded_length(RICH.samples, RICH.max_shift_s * RATE_HZ)
    farthest = (RICH.max_delay_s + 6e-3) * RATE_HZ
    assert start - farthest >= 2 * TAPER - 1
    assert total - start - RICH.samples - farthest >= 2 * TAPER - 1


def test_a_late_clock_delays_and_a_high_oscillator_lowers():
    clock = {"kinds": ("packet",), "clock_sigma_s": (1e-3,), "duration_s": 0.2}
    world = World.build(dataclasses.replace(WorldConfig(), **clock))
    sent, iq = noiseless(world, 0)
    iq = np.asarray(iq, np.complex128)
    error_s = np.asarray(sent.clock_error_s_R)
    late, early = int(error_s.argmax()), int(error_s.argmin())
    assert error_s[late] - error_s[early] > 1e-3
    lags = np.arange(-40, 41)
    matched = [abs(np.vdot(iq[early][100:-100], iq[late][100 + lag : iq.shape[1] - 100 + lag])) for lag in lags]
    arrival = np.asarray(sent.arrival_s_R)
    assert lags[np.argmax(matched)] == pytest.approx((arrival[late] - arrival[early]) * RATE_HZ, abs=0.6)

    world = World.build(dataclasses.replace(WorldConfig(), kinds=("carrier",), offset_max_hz=300.0))
    sent, iq = noiseless(world, 0)
    peak_hz = np.fft.fftfreq(12_000, 1 / RATE_HZ)[np.abs(np.fft.fft(np.asarray(iq))).argmax(axis=1)]
    np.testing.assert_allclose(peak_hz, np.asarray(sent.offset_hz_R), atol=0.6)
    assert peak_hz.min() < -20
    assert peak_hz.max() > 20
    # An oscillator that is fast by a ratio e shifts the signal by -e of the carrier, and takes samples e too often.
    np.testing.assert_allclose(np.asarray(sent.rate_error_R), peak_hz / 145e6, atol=0.6 / 145e6)


def test_snr_is_that_of_the_samples():
    found, told, kinds = [], [], set()
    for index in range(24):
        sent, clean = noiseless(RICH, index)
        noisy = np.asarray(SOURCE.recordings([index]).iq_RT[0], np.complex128)
        clean = np.asarray(clean, np.complex128)
        found.append((np.abs(clean) ** 2).mean(axis=1) / (np.abs(noisy - clean) ** 2).mean(axis=1))
        told.append(np.asarray(sent.snr_db_R))
        kinds.add(int(sent.kind))
        np.testing.assert_array_equal(np.asarray(sent.heard_R), np.asarray(sent.snr_db_R) >= 3)
    difference = 10 * np.log10(found) - np.array(told)
    strong = np.array(told) < 60  # above, the difference of two float32 is no longer the noise
    assert strong.sum() > 50
    # The mean of 2,400 noise powers scatters by 0.09 dB; echoes and clocks move pausing kinds by a few tenths.
    assert np.abs(difference[strong]).max() < 0.8
    assert np.abs(np.median(difference[strong])) < 0.05
    assert len(kinds) > 4


def test_gain_bias_is_on_signal_noise_and_report():
    biased = dataclasses.replace(WorldConfig(), gain_bias_db=4.0, duration_s=0.1)
    plain = World.build(dataclasses.replace(biased, gain_bias_db=0.0))
    world = World.build(biased)
    bias = np.asarray(world.gain_bias_db_R)
    assert np.abs(bias).max() > 2
    one, two = SimulatedSessions(world, "a", 3).recordings([1]), SimulatedSessions(plain, "a", 3).recordings([1])
    expected = np.asarray(two.iq_RT[0]) * 10 ** (bias[:, None] / 20)
    np.testing.assert_allclose(np.asarray(one.iq_RT[0]), expected, rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(one.transmission.received_power_dbm_R, two.transmission.received_power_dbm_R)
    np.testing.assert_array_equal(one.transmission.heard_R, two.transmission.heard_R)
    session = SimulatedSessions(world, "a", 3)[1]
    received = np.asarray(one.transmission.received_power_dbm_R[0])
    np.testing.assert_allclose(session.rss_db_R, received + bias, atol=1e-4)


@pytest.mark.parametrize("fixed", [True, False])
def test_fresh_worlds_differ_and_fixed_ones_do_not(fixed):
    """With a field that hardly changes over the region, a station's shadowing is one number per world."""
    wide = dataclasses.replace(WorldConfig(), fixed=fixed, shadowing_correlation_m=1e9, gain_bias_db=2.0)
    world = World.build(wide)
    sent = jax.tree.map(np.asarray, SimulatedSessions(world, "a", 1000).transmissions())
    spread_db, spread_bias_db = sent.shadowing_db_R.std(axis=0), sent.gain_bias_db_R.std(axis=0)
    if fixed:
        assert spread_db.max() < 0.5
        assert np.ptp(sent.gain_bias_db_R, axis=0).max() == 0
    else:
        np.testing.assert_allclose(spread_db, 6.0, rtol=4 / np.sqrt(2000))
        np.testing.assert_allclose(spread_bias_db, 2.0, rtol=4 / np.sqrt(2000))
        assert world.shadowing is None
    again = SimulatedSessions(World.build(wide), "a", 1000).transmissions([7])
    np.testing.assert_array_equal(again.shadowing_db_R[0], sent.shadowing_db_R[7])


def test_draws_have_their_spread(sent):
    config = RICH.config
    count = sent.clock_error_s_R.size
    for sigma_s in config.clock_sigma_s:
        chosen = sent.clock_sigma_s_R == np.float32(sigma_s)
        assert chosen.mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.1875 / count))
        assert sent.clock_error_s_R[chosen].std() == pytest.approx(sigma_s, rel=4 / np.sqrt(2 * chosen.sum()))
    assert np.abs(sent.offset_hz_R).max() <= 15
    assert sent.offset_hz_R.std() == pytest.approx(15 / np.sqrt(3), rel=0.03)  # of a uniform
    own = sent.rate_error_R - sent.offset_hz_R / sent.frequency_hz[:, None]
    assert own.std() == pytest.approx(1e-6, rel=4 / np.sqrt(2 * count))
    assert sent.echo_delay_s_RQ.min() >= 0.5e-6
    assert sent.echo_delay_s_RQ.max() <= 5e-6
    assert sent.echo_delay_s_RQ.mean() == pytest.approx(2.75e-6, rel=0.01)
    assert (np.abs(sent.echo_gain_RQ) ** 2).mean() == pytest.approx(0.1, rel=4 / np.sqrt(2 * count))  # -10 dB
    assert (np.abs(sent.echo_gain_RQ) ** 4).mean() == pytest.approx(0.02, rel=0.1)  # of Rayleigh: twice the square
    assert abs(sent.echo_gain_RQ.mean()) < 4 * np.sqrt(0.1 / (2 * count))
    shares = np.bincount(sent.kind, minlength=len(WAVEFORMS)) / len(sent.kind)
    expected = [config.kinds.count(name) / len(config.kinds) for name in WAVEFORMS]
    np.testing.assert_allclose(shares, expected, atol=4 * np.sqrt(0.25 / len(sent.kind)))


def test_a_higher_carrier_loses_a_constant_more(sent):
    assert set(sent.frequency_hz.tolist()) == {145e6, 433e6}
    loss_db = sent.path_loss_db_R - 30 * np.log10(sent.distance_m_R / 1000)
    # Friis: 20 log10(4 pi 1000 m f / c) = 75.675 and 85.178 dB
    np.testing.assert_allclose(loss_db[sent.frequency_hz == 145e6], 75.675, atol=2e-3)
    np.testing.assert_allclose(loss_db[sent.frequency_hz == 433e6], 85.178, atol=2e-3)


def test_received_power_is_the_sum_of_all(sent):
    echoes = 20 * np.log10(np.abs(1 + sent.echo_gain_RQ.astype(np.complex128).sum(axis=-1)))
    direct = sent.power_dbm[:, None] - sent.path_loss_db_R + sent.shadowing_db_R + sent.fading_db_R
    np.testing.assert_allclose(sent.received_power_dbm_R, direct + echoes, atol=2e-3)
    np.testing.assert_allclose(sent.reported_power_dbm_R, direct + echoes + sent.gain_bias_db_R, atol=2e-3)
    np.testing.assert_allclose(sent.snr_db_R, sent.received_power_dbm_R + 128.183, atol=2e-3)  # see test_world


def test_session_carries_what_a_model_may_know(sent):
    session = SOURCE[5]
    assert session.altitude_m_R is not None
    assert session.clock_sigma_s_R is not None
    assert session.altitude_m_R.tolist() == [600, 300, 250, 700, 480, 100, 120]
    assert set(session.clock_sigma_s_R.tolist()) <= set(RICH.config.clock_sigma_s)  # float64, exact
    np.testing.assert_allclose(session.clock_sigma_s_R, sent.clock_sigma_s_R[5], rtol=1e-6)
    assert session.frequency_hz == float(sent.frequency_hz[5])


def test_alone_in_a_batch_and_far_out_to_the_bit():
    last = ENDLESS - 1
    batch = SOURCE.batch([last, 11, 4, 9, 1, 3, 5, 6, 7, 8])
    for row, index in ((0, last), (2, 4)):
        alone = SOURCE.batch([index])
        for name, values in batch.items():
            one, among = (alone[name], values) if name == "station_m_RX" else (alone[name][0], values[row])
            np.testing.assert_array_equal(np.asarray(one), np.asarray(among), err_msg=name)
    assert len(SOURCE) == 2**31
    assert not np.array_equal(batch["iq_BRT"][0], batch["iq_BRT"][1])
    np.testing.assert_array_equal(SOURCE[-1].iq_RT, batch["iq_BRT"][0])
    assert bool(jnp.isfinite(batch["iq_BRT"].real).all())


def test_batch_gives_what_a_timing_model_needs():
    batch = SOURCE.batch(range(3))
    sent = SOURCE.transmissions(range(3))
    np.testing.assert_allclose(batch["arrival_s_BR"], np.asarray(sent.delay_s_R) + np.asarray(sent.clock_error_s_R))
    np.testing.assert_array_equal(batch["clock_sigma_s_BR"], sent.clock_sigma_s_R)
    np.testing.assert_array_equal(batch["station_m_RX"], RICH.station_m_RX)
    np.testing.assert_allclose(batch["rss_dbm_BR"], sent.reported_power_dbm_R, atol=1e-3)
    np.testing.assert_allclose(batch["snr_db_BR"], sent.snr_db_R, atol=1e-3)
    # The truths agree: speed of light times delay is the distance from the place to the station.
    place = np.asarray(batch["position_m_BE"], np.float64)
    flat = np.linalg.norm(place[:, None] - np.asarray(batch["station_m_RX"], np.float64)[None, :, :2], axis=-1)
    np.testing.assert_allclose(np.asarray(sent.delay_s_R) * 299_792_458, flat, rtol=3e-3, atol=800)
