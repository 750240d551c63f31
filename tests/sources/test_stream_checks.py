"""Dead, stuck, jumping and stepping receivers are found; sound ones are not."""

import numpy as np
import pytest

from heimdall_jax.sources.stream_checks import (
    Readings,
    clock_jumps,
    doubtful_receivers,
    gain_steps,
    is_dead,
    stuck_share,
)

RECEIVER_M = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0], [1000.0, 1000.0]])


@pytest.mark.parametrize("value", [0.0, 0.3 - 0.1j, np.nan])
def test_a_recording_of_one_value_is_dead(value: complex) -> None:
    iq_T = np.full(12_000, value, np.complex64)
    assert is_dead(iq_T) == (value == value)  # NaN is refused elsewhere, with its own reason
    iq_T[:7_000] = np.random.default_rng(0).normal(size=7_000)
    assert not is_dead(iq_T)
    assert stuck_share(np.nan_to_num(iq_T)) == pytest.approx(5 / 12)


def test_quiet_integers_are_not_dead() -> None:
    """Noise of an amplitude of one step repeats its values, but not for 64 samples."""
    iq_T2 = np.random.default_rng(0).integers(-1, 2, (100_000, 2)).astype(np.int16)
    assert stuck_share(iq_T2) == 0.0
    assert is_dead(np.zeros((512, 2), np.int16))


def stream(seconds: int, level: np.ndarray, signal_from_s: int = 0) -> np.ndarray:
    """Noise, a keyed carrier, from `signal_from_s` on 2 kHz of speech, 20 dB up, all times `level`, as integers."""
    rng, rate = np.random.default_rng(0), 12_001
    time_s = np.arange(seconds * rate) / rate
    noise = rng.standard_normal((len(time_s), 2)) @ np.array([1, 1j]) / np.sqrt(2)
    carrier = np.where(time_s % 1 < 0.2, 1.0, 8.0) * np.exp(200j * np.pi * time_s)
    spectrum = np.fft.fft(rng.standard_normal(len(time_s)))
    spectrum[np.abs(np.fft.fftfreq(len(time_s), 1 / rate) - 2000) > 1000] = 0
    speech = 25 * (time_s >= signal_from_s) * np.fft.ifft(spectrum)
    iq = 100 * np.repeat(level, rate) * (noise + carrier + speech)
    return np.rint(np.stack([iq.real, iq.imag], axis=-1)).astype(np.int16)


def test_steps_of_gain_are_found_and_beginning_signals_are_none() -> None:
    assert gain_steps(stream(30, np.ones(30)), 12_001.1) == []
    assert gain_steps(stream(30, np.ones(30), signal_from_s=15), 12_001.1) == []
    up, down = gain_steps(stream(40, np.repeat([1.0, 2.0, 0.4], [12, 12, 16])), 12_001.1)
    assert (abs(up.index - 12) <= 1, abs(down.index - 24) <= 1) == (True, True)
    assert (up.size, down.size) == (
        pytest.approx(20 * np.log10(2), abs=0.5),
        pytest.approx(20 * np.log10(0.2), abs=0.5),
    )
    assert gain_steps(stream(7, np.ones(7)), 12_001.1) == gain_steps(np.zeros((0, 2), np.int16), 12_001.1) == []


def stamps() -> tuple[np.ndarray, np.ndarray]:
    sample_N = np.arange(200) * 512
    return sample_N, 100.0 + sample_N / 12_001.1 + np.random.default_rng(0).normal(0, 86e-9, 200)


@pytest.mark.parametrize("jump_s", [5e-6, -2e-3, 1.0])
def test_a_jump_of_the_clock_is_found_where_it_is(jump_s: float) -> None:
    sample_N, time_s_N = stamps()
    time_s_N[120:] += jump_s
    ((index, size),) = clock_jumps(sample_N, time_s_N)
    assert index == 120
    assert size == pytest.approx(jump_s, abs=0.3e-6)


@pytest.mark.parametrize("stale", [0, 77, 199])
def test_a_stale_stamp_is_no_jump(stale: int) -> None:
    sample_N, time_s_N = stamps()
    time_s_N[stale] -= 300.0
    assert clock_jumps(sample_N, time_s_N) == []


def readings() -> Readings:
    """Four receivers, 800 recordings of a walk that comes by the same places in turn."""
    rng, count = np.random.default_rng(0), 800
    angle = np.arange(count) * 0.1
    place_m = 500 + 300 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    distance_m = np.linalg.norm(place_m[:, None] - RECEIVER_M, axis=-1)
    rss_db = -30 * np.log10(distance_m) + rng.normal(0, 2, distance_m.shape)
    all_true = np.ones(distance_m.shape, bool)
    where = np.broadcast_to(RECEIVER_M, (count, 4, 2)).copy()
    return Readings(("a", "b", "c", "d"), np.arange(count) * 20.0, place_m, where, all_true, all_true.copy(), rss_db)


def test_sound_receivers_are_not_doubted() -> None:
    assert doubtful_receivers(readings()) == ()


def test_a_frozen_receiver_is_told() -> None:
    rss_db = readings().rss_db_NR.copy()
    rss_db[100:130, 2] = -80.0
    (note,) = doubtful_receivers(readings()._replace(rss_db_NR=rss_db))
    assert note.startswith("c is frozen: it reads -80.0 dB 30 times in a row from 1970-01-01 00:33 UTC")


@pytest.mark.parametrize("step_db", [20.0, -20.0])
def test_a_step_in_gain_is_told_with_its_size(step_db: float) -> None:
    rss_db = readings().rss_db_NR.copy()
    rss_db[400:, 1] += step_db
    (note,) = doubtful_receivers(readings()._replace(rss_db_NR=rss_db))
    assert note.startswith("the level of b steps by")
    assert float(note.split("by ")[1].split(" dB")[0]) == pytest.approx(step_db, abs=4.0)


def test_a_receiver_that_never_hears_is_told() -> None:
    heard = readings().heard_NR.copy()
    heard[:, 3] = False
    (note,) = doubtful_receivers(readings()._replace(heard_NR=heard))
    assert note == "d took part in 800 recordings and heard none of them"
