"""From a batch of recordings to the arrays a model takes, and the check that a recording is fit for it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpy import ndarray

from heimdall_jax.config import FeatureConfig, TimingConfig
from heimdall_jax.cores import across_cores
from heimdall_jax.errors import DataError, explain
from heimdall_jax.features.chunks import over_recordings
from heimdall_jax.features.dft import Backend
from heimdall_jax.features.spectra import check_settings, parts_to_mel_spectrogram, power_to_db
from heimdall_jax.features.tdoa import parts_to_timing

RATE_TOLERANCE = 1e-3
"""Relative; a tone at the edge of the default band moves by a quarter of a bin. Real receivers are off by 1e-4."""


TIMING = ("tdoa_s", "arrival_precision_per_s2", "timing_valid", "bandwidth_hz")
"""What a data set keeps of a recording's timing; the bandwidth is for the bounds."""


def samples_needed(config: FeatureConfig) -> int:
    """Shortest recording, in samples, that gives `config.n_frames` frames; `hop_length` more would give another."""
    return config.n_fft + (config.n_frames - 1) * config.hop_length


@functools.cache
def extract(
    config: FeatureConfig, backend: Backend = "fft", *, timing: TimingConfig | None = None, spectrogram: bool = True
) -> Callable[..., dict[str, Array]]:
    """The feature function of a config, compiled once a process: complex (B, R, T) to a dict of float32 arrays.

    It takes the IQ and, where `timing` is asked for, which receivers to time (B, R), and gives what `parts_to_features`
    gives. Spectrograms and powers of receivers do not mix, so a row of a receiver that did not hear (whatever it holds)
    stays in its own row: mask it there.

    Raises:
        ConfigError: A setting is outside its range.
        DataError: When called: not complex, or not as long as `check_iq` demands.
    """
    check_settings(config)

    @jax.jit
    def of_rows(iq: Array, heard: Array | None = None) -> dict[str, Array]:
        i, q = jnp.real(iq).astype(jnp.float32), jnp.imag(iq).astype(jnp.float32)
        return parts_to_features(i, q, config, backend, heard=heard, timing=timing, spectrogram=spectrogram)

    def features(iq_BRT: ArrayLike, heard_BR: ArrayLike | None = None) -> dict[str, Array]:
        iq = iq_BRT if isinstance(iq_BRT, np.ndarray) else jnp.asarray(iq_BRT)
        _check_form(iq.dtype, iq.shape, config)
        return across_cores(of_rows, iq) if heard_BR is None else across_cores(of_rows, iq, heard_BR)

    return features


def parts_to_features(
    i: ArrayLike,
    q: ArrayLike,
    config: FeatureConfig,
    backend: Backend = "matmul",
    *,
    heard: ArrayLike | None = None,
    timing: TimingConfig | None = None,
    spectrogram: bool = True,
) -> dict[str, Array]:
    """Everything a model may take of real I and Q (..., R, T): one code for training, evaluation, export and serving.

    `rss_db` (..., R), the mean power of the whole recording in dB relative to full scale; with `spectrogram`
    `mel_spectrogram` (..., R, M, L) in dB likewise; with `timing` (and a batch axis) those of `TIMING` that
    `tdoa.parts_to_timing` gives.

    Raises:
        DataError: As `parts_to_mel_spectrogram` and `parts_to_timing`.
        ConfigError: A setting is outside its range.
    """
    i, q = jnp.asarray(i), jnp.asarray(q)
    features = {"rss_db": power_to_db(jnp.mean(i**2 + q**2, axis=-1), config.floor_db)}
    if spectrogram:
        features["mel_spectrogram"] = parts_to_mel_spectrogram(i, q, config, backend=backend)
    if timing is not None:
        active = jnp.ones(i.shape[:-1], jnp.float32) if heard is None else heard
        time = functools.partial(parts_to_timing, config=timing, sample_rate_hz=config.sample_rate_hz)
        active = jnp.asarray(active)
        found = time(i, q, active) if backend == "matmul" else over_recordings(time, i, q, active)
        features |= {name: found[name] for name in TIMING}
    return features


def check_iq(
    iq: ArrayLike, sample_rate_hz: float | int | None, config: FeatureConfig, heard: ndarray | None = None
) -> None:
    """Raise DataError unless recordings (R, T) or (B, R, T) are what `extract(config)` takes. Runs on the host.

    Args:
        iq: Complex baseband, full scale 1.
        sample_rate_hz: Of the recordings.
        config: What the features expect.
        heard: (R,) or (B, R), as the recordings; rows that are False may hold anything. None checks all rows.

    Raises:
        DataError: Real, empty, of another rank, too short, too long, NaN or Inf, or at another sample rate.
    """
    iq = np.asarray(iq)
    _check_form(iq.dtype, iq.shape, config)
    _check_rate(sample_rate_hz, config)
    bad = ~np.isfinite(iq).all(axis=-1)
    if heard is not None:
        if heard.shape != bad.shape:
            cure = "Give one flag per recording."
            raise DataError(explain("heard", got=f"shape {heard.shape}", allowed=f"{bad.shape}", cure=cure))
        bad &= heard
    if bad.any():
        rows = ", ".join(str(tuple(int(n) for n in row)) for row in np.argwhere(bad)[:4])
        cure = "Mark these receivers as not heard, or repair the recording."
        raise DataError(explain("IQ not finite", got=f"NaN or Inf in row {rows}", allowed="finite samples", cure=cure))


def _check_form(dtype: np.dtype, shape: tuple[int, ...], config: FeatureConfig) -> None:
    """Complex, (R, T) or (B, R, T), and as long as the config's frames."""
    needed = samples_needed(config)
    window = f"{needed} to {needed + config.hop_length - 1} samples for {config.n_frames} frames"
    if not np.issubdtype(dtype, np.complexfloating):
        cure = "Combine I and Q as i + 1j * q with full scale 1; a real signal is no complex baseband."
        raise DataError(
            explain("IQ not complex", got=f"real numbers ({dtype})", allowed="complex64 or complex128", cure=cure)
        )
    if len(shape) not in (2, 3):
        cure = "Add a receiver axis (iq[None]) or stack sessions."
        raise DataError(explain("IQ", got=f"shape {shape}", allowed="(receivers, samples) or a batch of it", cure=cure))
    if 0 in shape:
        cure = "Skip the session or read the recording again."
        raise DataError(explain("IQ empty", got=f"nothing, shape {shape}", allowed=window, cure=cure))
    if shape[-1] < needed:
        cure = "Record longer, or lower features.n_frames."
        raise DataError(explain("IQ too short", got=f"{shape[-1]} samples", allowed=window, cure=cure))
    if shape[-1] >= needed + config.hop_length:
        cure = f"Cut it into windows of {needed} samples, or raise features.n_frames."
        raise DataError(explain("IQ too long", got=f"{shape[-1]} samples", allowed=window, cure=cure))


def _check_rate(sample_rate_hz: float | int | None, config: FeatureConfig) -> None:
    want = config.sample_rate_hz
    if sample_rate_hz is None or not (math.isfinite(sample_rate_hz) and sample_rate_hz > 0):
        cure = "Give the rate at which the IQ was recorded."
        raise DataError(explain("sample rate", got=sample_rate_hz, allowed="a positive number of hertz", cure=cure))
    if abs(sample_rate_hz - want) > RATE_TOLERANCE * want:
        ratio = Fraction(want / sample_rate_hz).limit_denominator(1000)
        cure = (
            f"Resample to {want:g} Hz: scipy.signal.resample_poly(iq, {ratio.numerator}, {ratio.denominator}, axis=-1)."
        )
        allowed = f"{want:g} Hz within {RATE_TOLERANCE:.1%}"
        raise DataError(explain("sample rate", got=f"{sample_rate_hz:g} Hz", allowed=allowed, cure=cure))
