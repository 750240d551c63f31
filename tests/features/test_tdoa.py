import dataclasses

import jax
import numpy as np
import pytest
from delayed_signals import RATE_HZ, received, spectrum_of

from heimdall_jax.config import TimingConfig
from heimdall_jax.errors import ConfigError, DataError
from heimdall_jax.features.tdoa import iq_to_timing, parts_to_timing

CONFIG = TimingConfig()
N = 12_000


def timing(iq: np.ndarray, heard: np.ndarray | None = None, config: TimingConfig = CONFIG) -> dict[str, np.ndarray]:
    heard = np.ones(iq.shape[:2], bool) if heard is None else heard
    return {key: np.asarray(value) for key, value in iq_to_timing(iq, heard, config, RATE_HZ).items()}


def network(count: int = 2, receivers: int = 4, snr_db: float = 20.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """IQ of an FM transmission with random delays and offsets, and the delays in seconds."""
    rng = np.random.default_rng(seed)
    delay_s = rng.uniform(-3, 3, (count, receivers)) / RATE_HZ
    offset_hz = rng.uniform(-15, 15, (count, receivers))
    spectrum = spectrum_of("fm", rng, count, N)
    return received(spectrum, delay_s, snr_db=snr_db, offset_hz=offset_hz, rng=rng), delay_s


@pytest.mark.parametrize("rate_error", [0.0, 1e-6])
@pytest.mark.parametrize("offset_hz", [0.0, 1.0, 15.0])
@pytest.mark.parametrize("kind", ["fm", "flat"])
def test_a_known_delay_comes_back_with_its_sign(kind, offset_hz, rate_error):
    """Receiver 1 hears later by so many samples; the oracle's phase ramp is exact. No noise: 5 ns is the goal."""
    delays = np.array([-7.0, -3.25, -1.0, 0.0, 0.4, 1.0, 2.5, 7.0])
    rng = np.random.default_rng(1)
    delay_s = np.stack([np.zeros_like(delays), delays], axis=-1) / RATE_HZ
    iq = received(
        spectrum_of(kind, rng, len(delays), N),
        delay_s,
        offset_hz=np.array([[-offset_hz, offset_hz]]) / 2,
        rate_error=np.array([[0.0, rate_error]]),
        rng=rng,
    )
    got = timing(iq)
    assert got["timing_valid"][:, 0, 1].all()
    # With 1 ppm the delay drifts by 0.5 us to either side; noise-like power is not quite even about the middle.
    limit_s = 5e-9 if rate_error == 0 else 10e-9
    np.testing.assert_allclose(got["tdoa_s"][:, 1, 0], delay_s[:, 1], atol=limit_s)
    np.testing.assert_allclose(got["offset_hz"][:, 1, 0], offset_hz, atol=0.01)


def test_antisymmetric_symmetric_and_free_of_order():
    iq, _ = network()
    got = timing(iq)
    for key in ("tdoa_s", "offset_hz"):
        np.testing.assert_array_equal(got[key], -np.swapaxes(got[key], 1, 2))
    for key in ("tdoa_precision_per_s2", "timing_valid", "coherence"):
        np.testing.assert_allclose(got[key], np.swapaxes(got[key], 1, 2), rtol=1e-5)
        np.testing.assert_array_equal(np.diagonal(got[key], axis1=1, axis2=2), 0)
    np.testing.assert_allclose(got["lag_curve"], np.swapaxes(got["lag_curve"], 1, 2)[..., ::-1], atol=1e-6)
    order = [2, 0, 3, 1]
    moved = timing(iq[:, order])
    np.testing.assert_allclose(moved["tdoa_s"], got["tdoa_s"][:, order][:, :, order], atol=1e-9)
    np.testing.assert_allclose(moved["snr_db"], got["snr_db"][:, order], atol=1e-3)


def test_receivers_that_are_not_heard_change_nothing():
    iq, _ = network()
    more = np.concatenate([iq, np.full_like(iq[:, :1], np.nan)], axis=1)
    heard = np.array([[True] * 4 + [False]] * 2)
    alone, together = timing(iq), timing(more, heard)
    assert all(np.isfinite(value).all() for value in together.values())
    np.testing.assert_allclose(together["tdoa_s"][:, :4, :4], alone["tdoa_s"], atol=1e-9)
    np.testing.assert_allclose(together["snr_db"][:, :4], alone["snr_db"], atol=1e-3)
    np.testing.assert_allclose(together["bandwidth_hz"], alone["bandwidth_hz"], rtol=1e-5)
    for key in ("tdoa_s", "tdoa_precision_per_s2", "timing_valid", "lag_curve"):
        assert not together[key][:, 4].any()


def test_recordings_of_a_batch_do_not_mix_and_loudness_does_not_matter():
    iq, _ = network()
    got = timing(iq)
    for n in range(2):
        others = np.roll(iq, 3, axis=-1)[:, ::-1]  # later, their receivers in another order
        others[n] = iq[n] * np.float32(1e-3)
        one = timing(others)
        np.testing.assert_allclose(one["tdoa_s"][n], got["tdoa_s"][n], atol=1e-9)
        np.testing.assert_allclose(one["tdoa_precision_per_s2"][n], got["tdoa_precision_per_s2"][n], rtol=1e-2)


def test_other_gates_compile_nothing():
    """And are the ones asked for: 20 dB of signal pass one of 13 dB, and not one of 80."""
    iq, _ = network()
    timing(iq)
    with jax.no_tracing():
        deaf = timing(iq, config=dataclasses.replace(CONFIG, min_snr_db=80.0))
        wide = timing(iq, config=dataclasses.replace(CONFIG, min_bandwidth_hz=5000.0))
    assert not deaf["timing_valid"].any()
    assert not wide["timing_valid"].any()
    assert timing(iq)["timing_valid"].sum() == 2 * 12


@pytest.mark.slow
def test_maps_over_a_further_axis():
    iq, _ = network()
    heard = np.ones((2, 1, 4), bool)
    parts = iq.real[:, None].copy(), iq.imag[:, None].copy()
    run = jax.vmap(lambda i, q, h: parts_to_timing(i, q, h, CONFIG, sample_rate_hz=RATE_HZ)["tdoa_s"])
    np.testing.assert_allclose(np.asarray(run(*parts, heard))[:, 0], timing(iq)["tdoa_s"], atol=1e-9)


@pytest.mark.parametrize("method", ["plain", "phat", pytest.param("scot", marks=pytest.mark.slow)])
def test_silence_carriers_and_noise_are_finite_and_refused(method):
    config = dataclasses.replace(CONFIG, method=method)
    rng = np.random.default_rng(3)
    tone = np.exp(2j * np.pi * 700 * np.arange(N) / RATE_HZ)
    carrier = np.broadcast_to(tone, (4, N)).astype(np.complex64)
    noise = ((rng.standard_normal((4, 4, N)) + 1j * rng.standard_normal((4, 4, N))) / np.sqrt(2)).astype(np.complex64)
    silence = np.zeros_like(carrier)
    for pair in ((silence, carrier), (carrier + 0.1 * noise[0], carrier + noise[1]), (noise[2], noise[3])):
        got = timing(np.stack(pair), config=config)  # of `network`'s shape, which is compiled
        assert all(np.isfinite(value).all() for value in got.values())
        assert not got["timing_usable"].any()
        assert not got["tdoa_precision_per_s2"].any()


def test_noise_alone_does_not_pass_the_gate():
    """672 pairs whose best lag and offset are chance: their SNR after integration, N c^2, stays below 13 dB."""
    rng = np.random.default_rng(4)
    largest = []
    for _ in range(56):
        iq = rng.standard_normal((2, 4, N), np.float32) + 1j * rng.standard_normal((2, 4, N), np.float32)
        got = timing(iq.astype(np.complex64))
        assert not got["timing_valid"].any()
        largest.append(got["coherence"].max())
    assert 10 < 10 * np.log10(N * max(largest) ** 2) < CONFIG.min_snr_db


@pytest.mark.parametrize("method", ["phat", pytest.param("scot", marks=pytest.mark.slow)])
def test_weighted_variants_find_the_same_delay(method):
    iq, delay_s = network(snr_db=25.0)
    got = timing(iq, config=dataclasses.replace(CONFIG, method=method))
    truth = delay_s[:, :, None] - delay_s[:, None, :]
    assert got["timing_valid"].sum() == 2 * 12
    # PHAT scatters a few times wider than plain correlation, which has 60 ns here.
    np.testing.assert_allclose(got["tdoa_s"], truth, atol=3e-6)


def test_a_delay_beyond_the_lags_is_refused():
    rng = np.random.default_rng(5)
    delay_s = np.array([[0.0, 12.0]] * 8) / RATE_HZ
    iq = received(spectrum_of("gaussian", rng, 8, N), delay_s, snr_db=20.0, rng=rng)
    assert not timing(iq)["timing_valid"].any()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"half_width": 0}, r"timing\.half_width"),
        ({"max_lag": 16}, r"timing\.max_lag"),
        ({"block": 0}, r"timing\.block"),
        ({"max_offset_hz": 0.0}, r"timing\.max_offset_hz"),
        ({"min_bandwidth_hz": -1.0}, r"timing\.min_bandwidth_hz"),
    ],
)
def test_settings_are_checked(change, match):
    with pytest.raises(ConfigError, match=match):
        timing(np.ones((1, 2, N), np.complex64), config=dataclasses.replace(CONFIG, **change))


def test_recordings_are_checked():
    with pytest.raises(DataError, match="1j"):
        timing(np.ones((1, 2, N), np.float32))
    with pytest.raises(DataError, match="too short: got 400"):
        timing(np.ones((1, 2, 400), np.complex64))
    with pytest.raises(DataError, match="one floating type"):
        parts_to_timing(
            np.ones((1, 2, N), np.float32),
            np.ones((1, 3, N), np.float32),
            np.ones((1, 2), bool),
            CONFIG,
            sample_rate_hz=RATE_HZ,
        )
